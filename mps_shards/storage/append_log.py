"""Log files to which several threads and processes append lines."""

import os
from pathlib import Path

from mps_shards.errors import StorageError

__all__ = ["append_line"]


def append_line(path: Path, line: str) -> None:
    """Append a line by a single write, so that lines of several threads and processes never mix (POSIX).

    Raises:
        StorageError: the line cannot be written, or was written only in part.
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
        raise StorageError(f"cannot write {path}: only {written} of {len(content)} bytes could be written")
