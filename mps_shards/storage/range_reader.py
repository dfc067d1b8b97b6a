"""Ranged reads of local files through few open file descriptors, from any thread."""

import errno
import os
import resource
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from weakref import WeakValueDictionary

from mps_shards.errors import StorageError
from mps_shards.storage.folder import FileMissing

__all__ = ["RangeReader"]

_readers: "WeakValueDictionary[int, RangeReader]" = WeakValueDictionary()  # this process's readers with open files
_READER_LIMIT = 64
_PROCESS_LIMIT = 1024


class RangeReader:
    """Reads ranges of many files through at most `limit` open descriptors, from any thread.

    The default limit is 64, and all readers of a process together use at most a quarter of the descriptors that it may
    open (``ulimit -n``), which leaves enough for the program's own files. A file is opened at its first read and closed
    when it is the least recently used one. A descriptor that has become stale, as on NFS, is opened again.

    Pickling and forking are safe: each process opens its own descriptors.
    """

    def __init__(self, *, limit: int | None = None):
        self._given_limit = limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._open: OrderedDict[str, _File] = OrderedDict()

    def _reset_after_fork(self) -> None:
        if self._pid != os.getpid():  # a thread of the parent may hold the lock
            inherited = self._open
            self._reset()
            for file in inherited.values():
                os.close(file.descriptor)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes of a file from `offset` on.

        Raises:
            StorageError: The file cannot be opened or read, or is too short.
        """
        self._reset_after_fork()
        recovered = False
        while True:
            try:
                file = self._borrow(path)
                try:
                    content = os.pread(file.descriptor, size, offset)
                    while len(content) < size:
                        more = os.pread(file.descriptor, size - len(content), offset + len(content))
                        if not more:
                            end = offset + len(content)
                            raise StorageError(
                                f"{path} ends at byte {end}, but {size} bytes from {offset} were requested"
                            )
                        content += more
                    return content
                finally:
                    self._give_back(file)
            except OSError as error:
                if isinstance(error, StorageError):
                    raise
                if recovered or not self._recover(path, error):
                    kind = FileMissing if isinstance(error, FileNotFoundError) else StorageError
                    raise kind(f"{path}: {error.strerror}{_remedy(error)}") from error
                recovered = True

    def opened(self, paths: Sequence[str]) -> "_Opened":
        """Keep files open in the block, for code that reads them itself.

        The result is the descriptor of each path, in order. It is None if a file cannot be opened, or if more files
        would be open than this reader may keep: then `read` is to be used, which names an error.
        """
        return _Opened(self, paths)

    def _borrow_all(self, paths: Sequence[str]) -> list["_File"]:
        """Borrow files, or only some of them, if a file cannot be opened or more would be open than allowed."""
        self._reset_after_fork()
        with self._lock:
            files = [file for path in paths if (file := self._open.get(path)) is not None]
            for file in files:
                file.users += 1
            if len(files) == len(paths):
                return files
            idle = sum(not file.users for file in self._open.values())
            needed = len(self._open) - idle + len(set(paths) - self._open.keys())
        if needed <= self._limit():
            self._give_back(*files)
            files = []
            with suppress(OSError):
                for path in paths:
                    files.append(self._borrow(path))
        return files

    def _recover(self, path: str, error: OSError) -> bool:
        """Prepare another attempt after an error; return whether it may succeed."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            for reader in _others(None):
                reader.close()
            return True
        if error.errno == errno.ESTALE:
            self._forget(path)
            return True
        return False

    def _borrow(self, path: str) -> "_File":
        with self._lock:
            file = self._open.get(path)
            if file is not None:
                self._open.move_to_end(path)
                file.users += 1
                return file
        if id(self) not in _readers:
            _readers[id(self)] = self
            for reader in _others(self):
                reader._fit()
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            file.users += 1
            self._shrink(self._limit())
            return file

    def _limit(self) -> int:
        granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        share = _PROCESS_LIMIT if granted == resource.RLIM_INFINITY else min(_PROCESS_LIMIT, granted // 4)
        return self._given_limit or max(1, min(_READER_LIMIT, share // max(1, len(_readers))))

    def _fit(self) -> None:
        if self._pid == os.getpid():
            with self._lock:
                self._shrink(self._limit())

    def _forget(self, path: str) -> None:
        """Stop using the descriptor of a file."""
        with self._lock:
            file = self._open.pop(path, None)
            if file is not None:
                file.stale = True
                if not file.users:
                    os.close(file.descriptor)

    def _give_back(self, *files: "_File") -> None:
        with self._lock:
            for file in files:
                file.users -= 1
                if file.stale and not file.users:
                    os.close(file.descriptor)
            if len(self._open) > _READER_LIMIT or self._given_limit:
                self._shrink(self._limit())

    def _shrink(self, limit: int) -> None:
        if len(self._open) <= limit:
            return
        idle = [path for path, file in self._open.items() if not file.users]
        for path in idle[: len(self._open) - limit]:
            os.close(self._open.pop(path).descriptor)

    def close(self) -> None:
        """Close the files that no thread is reading. The reader can be used again."""
        if self._pid == os.getpid():
            with self._lock:
                self._shrink(0)
                if not self._open:
                    _readers.pop(id(self), None)

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():  # no thread can be reading: it would hold a reference
            for file in self._open.values():
                os.close(file.descriptor)

    def __getstate__(self) -> dict[str, int | None]:
        return {"limit": self._given_limit}

    def __setstate__(self, state: dict[str, int | None]) -> None:
        self._given_limit = state["limit"]
        self._reset()


def _others(this: RangeReader | None) -> list[RangeReader]:
    """Return all other readers of this process."""
    found = (each() for each in _readers.valuerefs())  # `valuerefs` copies the references at once
    return [reader for reader in found if reader is not None and reader is not this]


def _remedy(error: OSError) -> str:
    if error.errno != errno.EMFILE:
        return ""
    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"; this process may open {granted} files: raise the limit with ulimit -n {max(1024, 4 * granted)}"


class _Opened:
    """Result of `RangeReader.opened`: a class, because it is used for every few samples, and a generator is slower."""

    __slots__ = ("_files", "_paths", "_reader")

    def __init__(self, reader: RangeReader, paths: Sequence[str]):
        self._reader, self._paths = reader, paths

    def __enter__(self) -> list[int] | None:
        self._files = self._reader._borrow_all(self._paths)
        return [file.descriptor for file in self._files] if len(self._files) == len(self._paths) else None

    def __exit__(self, *_: object) -> None:
        self._reader._give_back(*self._files)


class _File:
    __slots__ = ("descriptor", "stale", "users")

    def __init__(self, descriptor: int):
        self.descriptor = descriptor
        self.users = 0
        self.stale = False
