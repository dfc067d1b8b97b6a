"""Text files that several threads and processes add lines to."""

import os
from pathlib import Path

from mps_shards.errors import StorageError

__all__ = ["append_line"]


def append_line(path: Path, line: str) -> None:
    """Add a line. One write at the end of the file: lines of other threads and processes never mix with it (POSIX).

    Raises:
        StorageError: it cannot be written, or only in part.
    """
    content = line.encode() + b"\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            written = os.write(descriptor, content)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    if written < len(content):
        raise StorageError(f"cannot write {path}: {written} of {len(content)} bytes fitted")
