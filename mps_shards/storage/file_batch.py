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
    """Writes files that are complete when they appear, even after a power cut. A batch must be used by one thread.

    The disk writes earlier files while later files are added, so the fsync of each file is short. All files appear when
    the block ends, also if the block fails. Their names are durable only after the caller has synced the folders.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Path]] = []  # temporary and final path of each file
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
            content: Bytes, or an object with the buffer interface.
            part: Unused path in the same folder, to which the file is written first.

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
        """Return the names of files that will appear in a folder."""
        return {path.name for _, path in self._waiting if path.parent == folder}

    def _finish(self) -> None:
        """Sync and rename all files. If this fails for a file, this file and all later files are removed."""
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
