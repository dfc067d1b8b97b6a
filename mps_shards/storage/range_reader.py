"""Ranged reads of local files through few descriptors, from any thread."""

import errno
import os
import resource
from collections import OrderedDict
from threading import Lock
from weakref import WeakValueDictionary

from mps_shards.errors import StorageError
from mps_shards.storage.folder import FileMissing

__all__ = ["RangeReader"]

_readers: "WeakValueDictionary[int, RangeReader]" = WeakValueDictionary()  # of this process


class RangeReader:
    """Reads ranges of many files through at most `limit` open descriptors, from any thread.

    By default that is a quarter of what the process may open, 64 at most. Where none is left, as with many sets open at
    once, every reader of the process closes what it does not use.

    A file is opened at its first read and closed when it is the one unused longest. Pickling and forking are safe:
    descriptors are never shared, each process opens its own.
    """

    def __init__(self, *, limit: int | None = None):
        granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = limit or (64 if granted == resource.RLIM_INFINITY else max(1, min(64, granted // 4)))
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._open: OrderedDict[str, _File] = OrderedDict()
        _readers[id(self)] = self

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Exactly `size` bytes of a file from `offset` on.

        Raises:
            StorageError: the file cannot be opened or read, or ends before that.
        """
        if self._pid != os.getpid():  # after a fork: the lock may be held by a thread that is not here
            inherited = self._open
            self._reset()
            for file in inherited.values():
                os.close(file.descriptor)
        try:
            try:
                file = self._borrow(path)
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                for found in _readers.valuerefs():  # a copy, made at once
                    if (reader := found()) is not None:
                        reader.close()
                file = self._borrow(path)
            try:
                content = os.pread(file.descriptor, size, offset)
                while len(content) < size:
                    more = os.pread(file.descriptor, size - len(content), offset + len(content))
                    if not more:
                        end = offset + len(content)
                        raise StorageError(f"{path} ends at byte {end}, {size} bytes from {offset} were asked for")
                    content += more
                return content
            finally:
                self._give_back(file)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            kind = FileMissing if isinstance(error, FileNotFoundError) else StorageError
            raise kind(f"{path}: {error.strerror}") from error

    def _borrow(self, path: str) -> "_File":
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            else:
                self._open.move_to_end(path)
            file.users += 1
            if len(self._open) > self._limit:
                self._shrink(self._limit)
            return file

    def _give_back(self, file: "_File") -> None:
        with self._lock:
            file.users -= 1
            if len(self._open) > self._limit:
                self._shrink(self._limit)

    def _shrink(self, limit: int) -> None:
        idle = [path for path, file in self._open.items() if not file.users]
        for path in idle[: len(self._open) - limit]:
            os.close(self._open.pop(path).descriptor)

    def close(self) -> None:
        """Close what no thread is reading from. The reader can be used again."""
        if self._pid == os.getpid():
            with self._lock:
                self._shrink(0)

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():  # nobody can be reading: they would hold a reference
            for file in self._open.values():
                os.close(file.descriptor)

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self._limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self._limit = state["limit"]
        self._reset()


class _File:
    __slots__ = ("descriptor", "users")

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.users = 0
