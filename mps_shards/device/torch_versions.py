"""Known defects of versions of torch that concern the transfer of batches to a device.

Numbers with # are issues and pull requests of pytorch/pytorch.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["HAZARDS", "LAST_KNOWN", "Hazard", "Version", "hazards_of", "non_blocking_is_safe", "parse_version"]

Version: TypeAlias = tuple[int, int]

LAST_KNOWN: Version = (2, 14)  # the latest version whose source was reviewed; later ones verify their first batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """A defect of some versions of torch, and what this package does about it.

    Attributes:
        device: kind of device that is affected.
        since, before: first version with the defect, and first version without it; None if no version is without it.
        issues: issues that describe the defect.
        what: the defect.
        remedy: how this package avoids the defect.
    """

    device: str
    since: Version = (0, 0)
    before: Version | None = None
    issues: tuple[str, ...]
    what: str
    remedy: str


HAZARDS = (
    Hazard(
        device="mps",
        before=(2, 13),
        issues=("#189690", "#139550"),
        what="a non-blocking copy does not keep its source alive, and may read freed memory",
        remedy="copies block",
    ),
    Hazard(
        device="mps",
        since=(2, 13),
        before=(2, 15),
        issues=("#181017",),
        what="a kept source is freed on Metal's completion thread, where memory owned by Python can dead-lock",
        remedy="host buffers are owned by torch, and a copy never holds the last reference",
    ),
    Hazard(
        device="mps",
        since=(2, 14),
        issues=("#197805", "#197836", "#197837"),
        what="two threads that use MPS crash the process",
        remedy="only the training loop's thread touches the device",
    ),
    Hazard(
        device="mps",
        issues=("#189563", "#197715"),
        what="reading back into another dtype can give wrong values",
        remedy="checks read back in the same dtype",
    ),
    Hazard(
        device="cuda",
        issues=(),
        what="dividing by a Python number multiplies by its reciprocal, which is wrong for 126 of 256 values",
        remedy="the divisor is a tensor on the device",
    ),
)


def parse_version(text: str) -> Version | None:
    """Return (major, minor) of a version such as ``2.14.1+cu130`` or ``2.15.0a0+git1234``; None for other texts."""
    match = re.match(r"\s*v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def hazards_of(device: str, version: Version | None) -> list[Hazard]:
    """Return the known defects of a kind of device in a version of torch; all of its defects if the version is None."""
    return [
        hazard
        for hazard in HAZARDS
        if hazard.device == device
        and (version is None or (hazard.since <= version and (hazard.before is None or version < hazard.before)))
    ]


def non_blocking_is_safe(device: str, version: Version | None) -> bool:
    """Whether non-blocking copies are safe, provided that a host buffer is not reused before its copy has finished."""
    if device == "mps":
        return version is None or version >= (2, 13)
    return device == "cuda"
