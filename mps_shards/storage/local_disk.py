"""Local and mounted folders. A written file appears completely or not at all."""

import contextlib
import errno
import io
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mps_shards.errors import StorageError
from mps_shards.storage.disk_sync import make_folder, sync_descriptor, sync_folder, translated
from mps_shards.storage.folder import File, FileMissing, Identity, Stop, Traffic, WritableFolder
from mps_shards.storage.range_reader import RangeReader

__all__ = [
    "PART",
    "LocalFolder",
    "begin_writing",
    "is_folder",
    "local_file",
    "replacing",
    "scratch",
]

PART = ".part"
_STREAMED = 1 << 17  # bytes that a sequential reader requests from the disk at a time
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalFolder(WritableFolder):
    """A folder on a local or mounted disk. A relative path stays relative in messages and is resolved at every use."""

    def __init__(self, path: Path):
        self.path: Path = path
        self.address = str(path.absolute())
        self.traffic = Traffic()
        self._reader = RangeReader()
        self._paths: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Last part of the real path, also if `path` is relative or a link."""
        return self.path.resolve().name

    def folder(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / name)

    def check(self) -> None:
        if not is_folder(self.path, missing="no such directory"):
            raise StorageError(f"{self.path}: not a directory")

    def names(self) -> list[str]:
        with translated(self.path):
            return sorted(path.name for path in self.path.iterdir() if path.is_file())

    def subfolders(self) -> list[str]:
        with translated(self.path):
            return sorted(path.name for path in self.path.iterdir() if path.is_dir())

    def below(self, name: str = "") -> dict[str, Identity]:
        found = {}
        for folder, _, files in os.walk(self.path / name):
            inside = Path(folder).relative_to(self.path)
            for file in files:
                with contextlib.suppress(FileMissing):
                    found[(inside / file).as_posix()] = self.identity((inside / file).as_posix())
        return found

    def identity(self, name: str) -> Identity:
        path = self.path / name
        with translated(path):
            found = path.stat()
            if not path.is_file():
                raise StorageError(f"{path} is not a regular file")
        return Identity(found.st_size, str(found.st_mtime_ns))

    def seen(self, name: str) -> Identity | None:
        """Return the present identity of a file, which needs no request to a store."""
        return self.identity_now(name)

    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> bytes:
        return self._reader.read(self._path_of(name), start, stop - start)

    def opened(self, names: Sequence[str]) -> contextlib.AbstractContextManager[list[int] | None]:
        return self._reader.opened([self._path_of(name) for name in names])

    def _path_of(self, name: str) -> str:
        path = self._paths.get(name)
        if path is None:
            path = self._paths[name] = str(self.path / name)
        return path

    def open_stream(self, name: str) -> io.BufferedReader:
        return io.BufferedReader(_LocalStream(self.path / name), _STREAMED)

    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        path = self.path / name
        with translated(path):
            size = path.stat().st_size
            if size > max_bytes:
                raise StorageError(f"{path} has {size} bytes, but at most {max_bytes} are accepted")
            return path.read_bytes()

    def map_file(self, name: str, *, max_bytes: int) -> memoryview:
        path = self.path / name
        with translated(path), path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:  # mmap refuses an empty file
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def check_writable(self) -> None:
        with translated(self.path):
            nearest = next(path for path in (self.path, *self.path.absolute().parents) if os.path.lexists(path))
        if not is_folder(nearest):
            raise StorageError(f"{nearest} is not a directory; name another place")
        if not os.access(nearest, os.W_OK | os.X_OK):
            code = errno.EROFS if os.statvfs(nearest).f_flag & os.ST_RDONLY else errno.EACCES
            raise StorageError(f"{nearest} cannot be written to: {os.strerror(code)}") from OSError(code, "")

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as file:
            file.write(content)
        sync_folder((self.path / name).parent)

    def create(self, name: str, content: bytes) -> bool:
        path = self.path / name
        with translated(path), tempfile.NamedTemporaryFile(dir=path.parent, suffix=PART) as file:
            file.write(content)
            file.flush()
            sync_descriptor(file.fileno())
            try:
                os.link(file.name, path)
            except FileExistsError:
                return False
            except OSError as error:  # the disk has no hard links
                if error.errno not in _NO_LINKS:
                    raise
                return _created(path, content)
        sync_folder(path.parent)
        return True

    @contextlib.contextmanager
    def writing(self, name: str, *, scratch_folder: Path | None = None) -> Iterator[BinaryIO]:
        """Open a binary file that is stored under `name`, completely, when the block ends without an error."""
        path = self.path / name
        make_folder(path.parent)
        # hidden, and without the suffix .part, which marks an unfinished pack
        part = (scratch_folder or path.parent) / f".{path.name}.new"
        with replacing(path, part=part) as file:
            yield file

    def delete(self, name: str) -> None:
        path = self.path / name
        with translated(path):
            path.unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """Rename a file, replacing an existing one. After the call, the move survives a power cut."""
        source, target = self.path / name, self.path / to
        make_folder(target.parent)
        with translated(source):
            os.replace(source, target)
        for folder in dict.fromkeys(
            [target.parent, source.parent]
        ):  # in the other order, a power cut could lose the file
            sync_folder(folder)

    def delete_below(self, name: str) -> None:
        """Remove all files below a folder. After the call, their removal survives a power cut."""
        folder = self.path / name
        with translated(folder):
            if not folder.exists():
                return
            shutil.rmtree(folder)
        sync_folder(folder.parent)

    def close(self) -> None:
        self._reader.close()

    def __str__(self) -> str:
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "traffic": Traffic(), "_paths": {}}


def is_folder(path: Path, *, missing: str = "no such file or directory") -> bool:
    """Whether an existing path is a folder.

    Args:
        missing: Reason in the error if nothing exists at the path.

    Raises:
        FileMissing: Nothing exists at the path, or the path is a link to nothing.
        StorageError: The path is too long, a link leads back to itself, or a folder above may not be searched.
    """
    with translated(path):
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError) as error:
            reason = f"a link to {os.readlink(path)}, which does not exist" if path.is_symlink() else missing
            raise FileMissing(f"{path}: {reason}") from error


def local_file(path: Path) -> File:
    """Return a local path as a `File` of its parent folder."""
    return LocalFolder(path.parent) / path.name


def _created(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            sync_descriptor(file.fileno())
    except FileExistsError:
        return False
    sync_folder(path.parent)
    return True


class _LocalStream(io.RawIOBase):
    """A raw file stream whose errors name the file."""

    def __init__(self, path: Path):
        self._path = path
        with translated(path):
            self._file = path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with translated(self._path):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        with translated(self._path):
            return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with translated(self._path):
            return self._file.readinto(buffer) or 0

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextlib.contextmanager
def replacing(path: Path, *, part: Path | None = None) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` only when the block succeeds: it is written aside, fsynced, renamed.

    Args:
        part: Path on the same disk at which the file is written first; by default `path` with ``.part`` appended.

    Raises:
        StorageError: The file cannot be written; the message says so if the disk is full.
    """
    part = part or path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            sync_descriptor(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError) and error.filename in (None, str(part)):
            raise _unwritten(path, error) from error
        raise


@contextlib.contextmanager
def scratch(folder: Path | None) -> Iterator[BinaryIO]:
    """Open an unnamed binary file for writing and reading. It disappears with the block, or with the process.

    Args:
        folder: Folder on whose disk the file is stored; by default the system's folder for temporary files.

    Raises:
        StorageError: The file cannot be written; the message says so if the disk is full.
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
    """Let the disk begin to write these bytes of a file, without waiting, so that the final fsync is short."""
    file.flush()
    if hasattr(os, "posix_fadvise"):  # Linux begins to write dirty pages that are "not needed", and keeps them
        os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_DONTNEED)
