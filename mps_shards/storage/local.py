"""Files of this machine: ranged reads through few descriptors, and writes that appear whole or not at all."""

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from mps_shards.errors import StorageError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "PART",
    "RangeReader",
    "begin_writing",
    "file_size",
    "map_array",
    "open_stream",
    "read_file",
    "replacing",
    "sync_folder",
]

PART = ".part"

# NumPy reads a header by ast.literal_eval, which fails now and then before CPython 3.11.8 when threads meet in it
# (SystemError, python/cpython#106905).
_reading_header = Lock()
os.register_at_fork(
    before=_reading_header.acquire, after_in_parent=_reading_header.release, after_in_child=_reading_header.release
)


def file_size(path: Path) -> int:
    """Bytes of a regular file.

    Raises:
        StorageError: there is none.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    if not path.is_file():
        raise StorageError(f"{path} is no regular file")
    return size


def open_stream(path: Path) -> BinaryIO:
    """The file, open for reading from its start; the caller closes it."""
    try:
        return path.open("rb")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def map_array(path: Path) -> "npt.NDArray[Any]":
    """A ``.npy`` file, memory-mapped and read-only; never unpickled.

    Raises:
        StorageError: it cannot be read.
        ValueError: it is no ``.npy`` file.
    """
    import numpy as np

    try:
        with _reading_header:
            return np.lib.format.open_memmap(path, mode="r")  # not np.load, which would open a .npz too
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """A small file whole.

    Raises:
        StorageError: it cannot be read, or is larger than `max_bytes`.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise StorageError(f"{path} has {size} bytes, at most {max_bytes} are accepted")
        return path.read_bytes()
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{path}: {error.strerror}") from error


class RangeReader:
    """Reads ranges of many files through at most `limit` open descriptors, from any thread.

    A file is opened at its first read and closed when it is the one unused longest. Pickling and forking are safe:
    descriptors are never shared, each process opens its own.
    """

    def __init__(self, *, limit: int = 64):  # far below the 256 descriptors that macOS grants by default
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._open: OrderedDict[str, _File] = OrderedDict()

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
            raise StorageError(f"{path}: {error.strerror}") from error

    def _borrow(self, path: str) -> "_File":
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            else:
                self._open.move_to_end(path)
            file.users += 1
            self._shrink(self._limit)
            return file

    def _give_back(self, file: "_File") -> None:
        with self._lock:
            file.users -= 1
            self._shrink(self._limit)

    def _shrink(self, limit: int) -> None:
        if len(self._open) > limit:
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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends well: written aside, fsynced, renamed.

    Raises:
        StorageError: it cannot be written; a full disk is named as such.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError) and error.filename in (None, str(part)):
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise StorageError(f"cannot write {path}: {reason}") from error
        raise


def begin_writing(file: BinaryIO, offset: int, size: int) -> None:
    """Let the disk begin with these bytes of a file, without waiting: then little is left for the fsync at its end."""
    file.flush()
    if hasattr(os, "posix_fadvise"):  # Linux: what is "not needed" is written first; what is not yet written stays
        os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable.

    Raises:
        StorageError: the disk refuses.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}") from error
