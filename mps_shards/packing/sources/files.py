"""Access to the files below one root by their relative paths; the root is a local folder or an archive."""

import contextlib
import errno
import hashlib
import mmap
import os
import posixpath
import stat
import sys
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from mps_shards.errors import DataError, StorageError
from mps_shards.packing.sources.source import Stamp
from mps_shards.shards.raw_sample import IMAGE_FIELDS

__all__ = [
    "ICLOUD",
    "Content",
    "Files",
    "FolderFiles",
    "NotedFiles",
    "ReadFiles",
    "SubFiles",
    "is_of_one_file",
    "is_shown",
    "stamp_of",
]

Content = bytes | mmap.mmap

# Folders of systems: thumbnails of Synology, the bin and the indexes of Windows, attributes in archives of macOS
_SYSTEM_FOLDERS = frozenset(["@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX"])
ICLOUD = ".icloud"  # macOS names a file x.jpg that is not downloaded .x.jpg.icloud
_ENDING = 4096  # bytes; images of one camera often begin with equal bytes, but end with different ones
# Two changes within this time may get the same timestamp: FAT has steps of two seconds, Linux clock ticks.
_COARSE_NS, _FINE_NS = 2_000_000_000, 20_000_000
# errors that concern one file rather than its disk, so that the file can be left out
_OF_ONE_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP)
# File names become keys, so names that are decoded differently would give other shards.
_KNOWS_ONLY_ASCII = sys.getfilesystemencoding() == "ascii"
# As in `os.path`, no file exists at a path that is too long or leads in a circle.
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Files(Protocol):
    """Files below one root. Paths are relative to the root, with forward slashes; "" is the root itself.

    Implementations raise `DataError` for a file that this user may not read, `StorageError` for other read errors,
    and `FileNotFoundError` where a method says so.
    """

    @property
    def name(self) -> str:
        """The root, for messages: a folder, or the path of an archive."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Names in a folder, sorted; names of folders end with a slash, and hidden names are left out."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of this path."""
        ...

    def is_file(self, path: str) -> bool:
        """Whether there is a file of this path."""
        ...

    def size(self, path: str) -> int:
        """Bytes of a file. Raises FileNotFoundError if there is no such file."""
        ...

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A file open for reading as a stream, for lists that are larger than memory; the caller closes it."""
        ...

    def mapped(self, path: str) -> Content:
        """The whole content of a large file, mapped into memory where that is possible."""
        ...

    def ending(self, path: str, size: int) -> bytes: ...

    def stamp(self, paths: Iterable[str]) -> Stamp:
        """Return the stamp of several files together, as `Source.stamp` does for an entry."""
        ...

    def identity(self, folder: str) -> Hashable:
        """A value that identifies a folder, whichever path leads to it."""
        ...

    def relative(self, absolute: str) -> str:
        """The relative path of a file that an absolute path names; begins with ``../`` outside of the root."""
        ...


def is_shown(name: str) -> bool:
    """Whether a name is listed: hidden ones and folders of systems are not, but placeholders of iCloud files are."""
    return (not name.startswith(".") and name not in _SYSTEM_FOLDERS) or name.endswith(ICLOUD)


def stamp_of(*values: object, is_sure: bool) -> Stamp:
    """Return a stamp whose digest changes whenever one of the values does."""
    return Stamp(hashlib.blake2b(repr(values).encode(), digest_size=8).digest(), is_sure)


def file_stamp(path: str | Path, *others: object) -> Stamp:
    """Return the stamp of a local file that is replaced rather than changed, such as an archive, and of other values.

    Raises:
        StorageError: the file cannot be read.
    """
    return stamp_of(*_file_facts(path), *others, is_sure=True)


def _file_facts(path: str | Path) -> tuple[int, int, int, int]:
    """Return size, modification time, change time and inode of a file. The change time cannot be set back by users."""
    try:
        about = os.stat(path)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


class ReadFiles(list[tuple[Files, str, Stamp]]):
    """Files other than images that were read while a source was listed, such as lists and annotations."""


class NotedFiles:
    """A wrapper of `Files` that records in `noted` which lists and annotations are read, but not which images."""

    def __init__(self, files: Files, noted: ReadFiles):
        self._files, self._noted = files, noted
        self._paths: set[str] = set()
        self.names, self.is_folder, self.is_file, self.size = files.names, files.is_folder, files.is_file, files.size
        self.ending, self.stamp, self.identity, self.relative = (
            files.ending,
            files.stamp,
            files.identity,
            files.relative,
        )

    @property
    def name(self) -> str:
        return self._files.name

    def read(self, path: str) -> bytes:
        self._note(path)
        return self._files.read(path)

    def open(self, path: str) -> BinaryIO:
        self._note(path)
        return self._files.open(path)

    def mapped(self, path: str) -> Content:
        self._note(path)
        return self._files.mapped(path)

    def _note(self, path: str) -> None:
        is_image = path.rpartition(".")[2].lower() in IMAGE_FIELDS
        if path not in self._paths and not is_image and "." in posixpath.basename(path):
            self._paths.add(path)
            self._noted.append((self._files, path, self._files.stamp([path])))


def _unread(path: str, error: OSError) -> DataError | StorageError:
    kind = DataError if error.errno in _OF_ONE_FILE else StorageError
    return kind(f"cannot read {path}: {error.strerror}")


def is_of_one_file(error: BaseException) -> bool:
    """Whether an error concerns one file or folder, so that the rest can be packed without it, and not the disk."""
    cause = error.__cause__
    return not isinstance(cause, OSError) or cause.errno in (*_OF_ONE_FILE, *_NO_SUCH_FILE)


def _is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link that points to itself
        return False


class SubFiles:
    """The files below a folder of other `Files`."""

    def __init__(self, files: Files, folder: str):
        self._files = files
        self._folder = folder  # with a slash at its end

    @property
    def name(self) -> str:
        return f"{self._files.name}/{self._folder}".removesuffix("/")

    def names(self, folder: str = "") -> list[str]:
        return self._files.names(self._folder + folder)

    def is_folder(self, path: str) -> bool:
        return self._files.is_folder(self._folder + path)

    def is_file(self, path: str) -> bool:
        return self._files.is_file(self._folder + path)

    def size(self, path: str) -> int:
        return self._files.size(self._folder + path)

    def read(self, path: str) -> bytes:
        return self._files.read(self._folder + path)

    def open(self, path: str) -> BinaryIO:
        return self._files.open(self._folder + path)

    def mapped(self, path: str) -> Content:
        return self._files.mapped(self._folder + path)

    def ending(self, path: str, size: int) -> bytes:
        return self._files.ending(self._folder + path, size)

    def stamp(self, paths: Iterable[str]) -> Stamp:
        return self._files.stamp(self._folder + path for path in paths)

    def identity(self, folder: str) -> Hashable:
        return self._files.identity(self._folder + folder)

    def relative(self, absolute: str) -> str:
        return posixpath.relpath(self._files.relative(absolute), self._folder)


class FolderFiles:
    """The files of a local folder. Symbolic links are followed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._root = f"{folder}/"

    @property
    def name(self) -> str:
        return str(self.folder)

    def names(self, folder: str = "") -> list[str]:
        try:
            with os.scandir(self._root + folder) as items:
                names = sorted(f"{i.name}/" if _is_folder(i) else i.name for i in items if is_shown(i.name))
        except OSError as error:
            raise StorageError(f"cannot list {error.filename}: {error.strerror}") from error
        if _KNOWS_ONLY_ASCII and (unread := next((name for name in names if not name.isascii()), None)):
            raise StorageError(
                f"the file name {unread!r} in {self._root}{folder} cannot be read in this locale, whose encoding is "
                "ascii; set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
            )
        return names

    def is_folder(self, path: str) -> bool:
        return self._is_kind(path, stat.S_ISDIR)

    def is_file(self, path: str) -> bool:
        return self._is_kind(path, stat.S_ISREG)

    def _is_kind(self, path: str, is_kind: Callable[[int], bool]) -> bool:
        """Whether there is a file of this kind. Raises StorageError if that is unknown, where `os.path` returns False.

        A folder that may not be searched counts as empty here; listing it or reading from it reports the error.
        """
        try:
            return is_kind(os.stat(self._root + path).st_mode)
        except OSError as error:
            if error.errno in (*_NO_SUCH_FILE, errno.EACCES):
                return False
            raise StorageError(f"{self._root}{path}: {error.strerror}") from error
        except ValueError:  # a list may contain a null character
            return False

    def size(self, path: str) -> int:
        try:
            return os.stat(self._root + path).st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            raise StorageError(f"{self._root}{path}: {error.strerror}") from error

    def read(self, path: str) -> bytes:
        try:
            with open(self._root + path, "rb", buffering=0) as file:
                return file.readall()
        except OSError as error:
            raise _unread(self._root + path, error) from error

    def open(self, path: str) -> BinaryIO:
        try:
            return open(self._root + path, "rb")
        except OSError as error:
            raise _unread(self._root + path, error) from error

    def mapped(self, path: str) -> Content:
        with self.open(path) as file, contextlib.suppress(ValueError, OSError):  # empty, or cannot be mapped
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self.read(path)

    def ending(self, path: str, size: int) -> bytes:
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY)
            try:
                return os.pread(descriptor, _ENDING, max(0, size - _ENDING))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unread(self._root + path, error) from error

    def stamp(self, paths: Iterable[str]) -> Stamp:
        """Return a stamp of several files. It includes their change times, which cannot be set back."""
        values = [_file_facts(self._root + path) for path in paths]
        newest = max(max(modified, changed) for _, modified, changed, _ in values)
        resolution = _FINE_NS if newest % 1_000_000_000 else _COARSE_NS
        return stamp_of(*values, is_sure=newest + resolution < time.time_ns())

    def identity(self, folder: str) -> tuple[int, int]:
        try:
            about = os.stat(self._root + folder)
        except OSError as error:
            raise StorageError(f"cannot list {error.filename}: {error.strerror}") from error
        return about.st_dev, about.st_ino

    def relative(self, absolute: str) -> str:
        ways = (os.path.relpath(absolute, root) for root in (self.folder.absolute(), self.folder.resolve()))
        return min(ways, key=len)  # the shorter path has no '..' if the file is below the root
