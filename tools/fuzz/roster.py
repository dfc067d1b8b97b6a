"""The targets by name."""

from importlib import import_module
from typing import Protocol, cast

__all__ = ["TARGETS", "Target", "target"]

TARGETS = (
    "tar",
    "sample",
    "scan",
    "foreign",
    "manifest",
    "index",
    "keys",
    "listing",
    "lists",
    "cursor",
    "options",
    "image",
    "mask",
)


class Target(Protocol):
    """A module ``of_NAME``."""

    def seeds(self) -> list[bytes]:
        """Inputs to begin with: small, real, each of another kind."""
        ...

    def check(self, data: bytes) -> None:
        """Raise anything at all if this input finds a defect."""
        ...


def target(name: str) -> Target:
    """The target's module, imported now."""
    return cast(Target, import_module(f"tools.fuzz.of_{name}"))
