"""Batches of small files that are written under temporary names, synced together and then renamed."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from mps_shards.errors import StorageError
from mps_shards.storage.disk_sync import sync_files, translated
from mps_shards.storage.local_disk import begin_writing

__all__ = ["FileBatch"]

_MOST_FILES = 256
_MOST_BYTES = 64 << 20


class FileBatch:
    """Writes files that appear complete, even after a power cut.

    The disk writes the files of a batch while later ones are added, so one fsync for each is short. Files appear at the
    latest when the block ends, and also if it fails. Not safe to share by threads. The names are durable only when the
    caller has synced the folders.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Path]] = []  # where each file lies, and where it will appear
        self._bytes = 0

    def __enter__(self) -> "FileBatch":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.nullcontext() if error is None else contextlib.suppress(StorageError):
            self._finish()

    def add(self, path: Path, content: Any, *, part: Path) -> None:
        """Write a file.

        Args:
            path: Final path of the file.
            content: Bytes, or an object with their buffer interface.
            part: Unused path in the same folder, at which the file is written first.

        Raises:
            OSError: the file cannot be written.
            StorageError: an earlier file of the batch cannot be synced or renamed.
        """
        try:
            with part.open("wb") as file:
                file.write(content)
                begin_writing(file, 0, len(content))
        except BaseException:
            _remove(part)
            raise
        self._waiting.append((part, path))
        self._bytes += len(content)
        if len(self._waiting) >= _MOST_FILES or self._bytes >= _MOST_BYTES:
            self._finish()

    def waiting(self, folder: Path) -> set[str]:
        """Names of the files that have yet to appear in a folder."""
        return {path.name for _, path in self._waiting if path.parent == folder}

    def _finish(self) -> None:
        """Let the files appear; if one cannot, it is removed, with all that follow it."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        try:
            sync_files([part for part, _ in waiting])
            for part, path in waiting:
                with translated(path):
                    os.replace(part, path)
        except BaseException:
            for part, _ in waiting:
                _remove(part)
            raise


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
