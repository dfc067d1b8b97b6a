"""Measurement of the memory, threads and files of a process, and of their growth over a long run."""

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

GROWTH_MB = 8  # allowed growth of memory in use from the first to the last quarter; buffers change it by about 4 MB
GROWTH_BLOCKS = 3000  # allowed growth of Python's 1.3 million memory blocks; caches of torch grow for an hour


@dataclass(frozen=True, slots=True)
class Held:
    """Memory, threads and files of the process between two episodes.

    Attributes:
        in_use_mb: memory that malloc has allocated, in arenas and in separate mappings.
        blocks: number of memory blocks that Python has allocated.
        resident_mb: proportional set size (PSS), which is only printed.
        threads, files: number of threads, and of open files.
    """

    in_use_mb: float
    blocks: int
    resident_mb: float
    threads: int
    files: int

    @classmethod
    def now(cls) -> "Held":
        """Return the present values, from mallinfo2 and /proc. Needs Linux with glibc 2.33 or newer."""
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
    """Return the median memory and blocks, and the largest numbers of threads and files, of each quarter of a run."""
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
    """Yield a line for each value that grew too much from the first to the last quarter, without the first tenth."""
    parts = quarters(seen[len(seen) // 10 :])
    for name, allowed in (("in_use_mb", GROWTH_MB), ("blocks", GROWTH_BLOCKS), ("threads", 0), ("files", 0)):
        first, end = getattr(parts[0], name), getattr(parts[-1], name)
        if end - first > allowed:
            yield f"{name} grew from {first:,.0f} to {end:,.0f}, but only {allowed:,} more are allowed"
