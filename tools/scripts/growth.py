"""What a process holds, and whether that grows over a long run."""

import ctypes
import os
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Held", "growth", "quarters"]

GROWTH_MB = 8  # of memory in use, from the first quarter to the last; buffers of the last episode move it by some 4
GROWTH_BLOCKS = 3000  # of Python's, of 1.3 million; caches of the standard library and of torch fill in an hour


@dataclass(frozen=True, slots=True)
class Held:
    """What the process holds between two episodes.

    Attributes:
        in_use_mb: memory that malloc has handed out, in its arenas and in mappings of its own.
        blocks: memory blocks that Python has allocated.
        resident_mb: the process's share of resident pages (PSS), which is only printed.
    """

    in_use_mb: float
    blocks: int
    resident_mb: float
    threads: int
    files: int

    @classmethod
    def now(cls) -> "Held":
        """Linux with glibc 2.33 or newer only: by mallinfo2 and /proc."""
        rollup = Path("/proc/self/smaps_rollup").read_text()
        resident = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        given = _mallinfo2()
        return cls(
            in_use_mb=(given.uordblks + given.hblkhd) / 2**20,
            blocks=sys.getallocatedblocks(),
            resident_mb=resident / 1024,
            threads=threading.active_count(),
            files=len(os.listdir("/proc/self/fd")),
        )


class _Mallinfo2(ctypes.Structure):
    """``struct mallinfo2`` of <malloc.h>."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _mallinfo2() -> Any:
    function = ctypes.CDLL(None).mallinfo2
    function.restype = _Mallinfo2
    return function()


def quarters(seen: Sequence[Held]) -> list[Held]:
    """Medians of memory and blocks, and most threads and files, of each quarter."""
    size = max(1, len(seen) // 4)
    parts = [seen[start : start + size] for start in range(0, 4 * size, size)]
    return [
        Held(
            in_use_mb=statistics.median(one.in_use_mb for one in part),
            blocks=statistics.median_low(one.blocks for one in part),
            resident_mb=statistics.median(one.resident_mb for one in part),
            threads=max(one.threads for one in part),
            files=max(one.files for one in part),
        )
        for part in parts
        if part
    ]


def growth(seen: Sequence[Held]) -> Iterator[str]:
    """What grew from the first quarter to the last, after warming up."""
    parts = quarters(seen[len(seen) // 10 :])
    for name, allowed in (("in_use_mb", GROWTH_MB), ("blocks", GROWTH_BLOCKS), ("threads", 0), ("files", 0)):
        first, end = getattr(parts[0], name), getattr(parts[-1], name)
        if end - first > allowed:
            yield f"{name} grew from {first:,.0f} to {end:,.0f}, {allowed:,} are allowed"
