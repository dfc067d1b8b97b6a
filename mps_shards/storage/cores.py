"""The number of cores that this process may use."""

import contextlib
import os
from pathlib import Path

__all__ = ["available_cores"]

_CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return how many cores this process may use by its CPU affinity and the CPU quota of its control group.

    The result is at least 1. A quota of 2.5 cores counts as 3.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(_CGROUP)
    return cores if quota is None else max(1, min(cores, quota))


def _quota(root: Path) -> int | None:
    """Return how many cores the control group grants, rounded up; None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # the file only exists with control groups of version 2
        granted, period = (root / "cpu.max").read_text().split()
        return None if granted == "max" else -(-int(granted) // int(period))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        granted_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu/cpu.cfs_period_us").read_text())
        return None if granted_us <= 0 else -(-granted_us // period_us)
    return None
