"""Files of this machine: ranged reads through few descriptors, and writes that appear whole or not at all."""

import contextlib
import errno
import io
import os
import resource
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO
from weakref import WeakValueDictionary

from mps_shards.errors import StorageError
from mps_shards.storage.backend import Answer, FileMissing, Identity

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "PART",
    "LocalBackend",
    "RangeReader",
    "array_in",
    "begin_writing",
    "file_names",
    "file_size",
    "map_array",
    "open_stream",
    "read_file",
    "replacing",
    "scratch",
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


def file_names(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def open_stream(path: Path) -> io.BufferedReader:
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
    except ValueError:
        raise
    except Exception as error:  # its header is Python's: TokenError, SyntaxError, TypeError, MemoryError … were seen
        raise ValueError(f"its header cannot be understood ({type(error).__name__})") from error


def array_in(content: bytes) -> "npt.NDArray[Any]":
    """The array of a ``.npy`` file's bytes, read-only; never unpickled. Raises ValueError if it is none."""
    import numpy as np

    with _reading_header:
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    array.flags.writeable = False
    return array


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
            raise StorageError(f"{path}: {error.strerror}") from error

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


@contextlib.contextmanager
def replacing(path: Path, *, part: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` only when the block ends well: written aside, fsynced, renamed.

    Args:
        part: where it is written, on the same disk; by default beside `path`, with ``.part`` appended.

    Raises:
        StorageError: it cannot be written; a full disk is named as such.
    """
    part = part or path.with_name(path.name + PART)
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
            raise _unwritten(path, error) from error
        raise


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[BinaryIO]:
    """A binary file without a name, to write and to read again: it is gone with the block, or with the process.

    Args:
        folder: whose disk it takes room on; by default the system's for temporary files.

    Raises:
        StorageError: it cannot be written; a full disk is named as such.
    """
    where = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            yield file
    except OSError as error:
        if isinstance(error, StorageError) or not (error.filename is None or error.filename.startswith(str(where))):
            raise
        raise _unwritten(where, error) from error


def _unwritten(path: Path, error: OSError) -> StorageError:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
    return StorageError(f"cannot write {path}: {reason}")


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


class LocalBackend:
    """A folder of this machine, or one mounted here, as a store. See `Backend`."""

    tells_identity = True

    def __init__(self, folder: Path):
        self._folder = folder

    def head(self, name: str) -> Identity:
        """See `Backend`."""
        path = self._folder / name
        try:
            found = path.stat()
        except FileNotFoundError:
            raise FileMissing(f"{path}: no such file") from None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        return Identity(found.st_size, str(found.st_mtime_ns))

    def get(self, name: str, start: int, stop: int | None) -> Answer:
        """See `Backend`."""
        identity = self.head(name)
        return Answer(identity, self._pieces(name, start, identity.size if stop is None else stop))

    def _pieces(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        with open_stream(self._folder / name) as file:
            file.seek(start)
            while start < stop and (piece := file.read(min(1 << 20, stop - start))):
                start += len(piece)
                yield piece

    def names(self) -> list[str]:
        """See `Backend`."""
        return file_names(self._folder)

    def put(self, name: str, content: bytes) -> None:
        """See `Backend`."""
        with replacing(self._folder / name) as file:
            file.write(content)
