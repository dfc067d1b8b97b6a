"""Names of the fuzz targets, and their modules."""

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
    """Contract of a fuzz target, which is a module ``of_NAME``."""

    def seeds(self) -> list[bytes]:
        """Return initial inputs: small real files of different kinds."""
        ...

    def check(self, data: bytes) -> None:
        """Raise any exception if this input shows a defect."""
        ...


def target(name: str) -> Target:
    """Import and return the module of a target."""
    return cast(Target, import_module(f"tools.fuzz.of_{name}"))
