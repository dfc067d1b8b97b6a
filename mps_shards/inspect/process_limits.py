"""Limits of this process and the cost of starting another, for ``mps-shards doctor``."""

import subprocess
import sys
import time
from dataclasses import dataclass

__all__ = ["ProcessLimits", "process_limits"]

# A loader keeps 64 shards open, each spawned DataLoader worker needs several, and so do the caller's own files.
_FEW_FILES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """How many files this process may open, and how long a new process takes to start.

    Attributes:
        open_files, open_files_most: number of files that may be open now, and that ``ulimit -n`` can allow.
        start_s: seconds that a new Python process takes until it can read a set, as every DataLoader worker does where
            processes are spawned (macOS, Windows); None if this was not measured.
        problems: limits that are too low.
    """

    open_files: int
    open_files_most: int
    start_s: float | None
    problems: tuple[str, ...]


def process_limits(*, start: bool = True) -> ProcessLimits:
    """Return how many files this process may open, and how long a new process takes to start.

    Args:
        start: also measure the start of a process, which takes seconds.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 0 <= soft < _FEW_FILES
    problem = f"only {soft} files may be open at once: raise the limit with `ulimit -n 4096`"
    return ProcessLimits(
        open_files=soft,
        open_files_most=hard,
        start_s=_started_s() if start else None,
        problems=(problem,) if few else (),
    )


def _started_s() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import mps_shards.dataset"], check=True, capture_output=True)
    return time.perf_counter() - began
