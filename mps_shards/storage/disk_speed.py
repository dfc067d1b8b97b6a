"""Dropping files from the page cache, so that the next read measures the disk."""

import contextlib
import os
from pathlib import Path

__all__ = ["forget_cached"]


def forget_cached(path: Path) -> bool:
    """Drop a file's clean pages from the page cache; return False if the system has no such call."""
    if not hasattr(os, "posix_fadvise"):
        return False
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        return True
    return False
