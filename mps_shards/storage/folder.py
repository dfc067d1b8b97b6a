"""The contract of a folder: its files are listed, read and written by name, wherever the folder lies."""

import contextlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple, TypeAlias

from mps_shards.errors import StorageError

__all__ = ["AccessDenied", "File", "FileMissing", "Folder", "Identity", "Stop", "Traffic", "WritableFolder"]

Stop: TypeAlias = Future[None]  # done as soon as nobody wants the bytes any more


class Identity(NamedTuple):
    """What tells a file from one that replaces it: its size, and its etag or time of change ("" where unknown)."""

    size: int
    tag: str


class FileMissing(StorageError):
    """There is no such file."""


class AccessDenied(StorageError):
    """The store refuses access. Amazon S3 also answers so for a missing object whose bucket may not be listed."""


_counting = Lock()
os.register_at_fork(before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_counting.release)


@dataclass(slots=True)
class Traffic:
    """What this process has asked of a store so far.

    Attributes:
        requests: Requests that were sent, repeated ones included.
        bytes: Bytes that arrived.
        retries: Requests that were repeated.
        hits: Files that a cache already held.
        waited_s: Seconds that readers waited for bytes, added up over all of them.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    hits: int = 0
    waited_s: float = 0.0

    def add(self, **more: float) -> None:
        """Add to the figures of these names. May be called from any thread."""
        with _counting:
            for name, amount in more.items():
                setattr(self, name, getattr(self, name) + amount)

    @classmethod
    def sum(cls, parts: "Sequence[Traffic]") -> "Traffic":
        """Return the sum of several. A generator is not accepted: Ctrl-C inside of one would keep its files open."""
        total = cls()
        for part in parts:
            total.add(**asdict(part))
        return total


class Folder(ABC):
    """Files of one folder, by name. Names may hold slashes. Safe to use from any thread, to pickle and to fork.

    Every method raises `StorageError` where the disk or store does not do what is asked, and `FileMissing` where there
    is no such file. The text of a folder is its address without passwords and queries.

    Attributes:
        address: Full address, the same for the same folder. May hold secrets: not to be shown.
        path: The folder's path where it is a local one, else None.
        traffic: Requests so far; all zero for a local folder.
        tells_identity: Whether a replaced file is always noticed. Otherwise its content should be verified.
        waits: Whether reading waits for a network, so that it pays to read ahead.
    """

    address: str
    path: Path | None = None
    traffic: Traffic
    tells_identity: bool = True
    waits: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return str(self).rstrip("/").rpartition("/")[2]

    @abstractmethod
    def folder(self, name: str) -> "Folder":
        """The folder of this name inside this one. Nothing is created."""

    @abstractmethod
    def check(self) -> None:
        """Raise StorageError where this is surely not a folder. A store is not asked: its folders are only prefixes."""

    @abstractmethod
    def names(self) -> list[str]:
        """Names of the files directly in the folder, sorted."""

    @abstractmethod
    def subfolders(self) -> list[str]:
        """Names of the folders directly in the folder, sorted."""

    @abstractmethod
    def below(self, name: str = "") -> dict[str, Identity]:
        """All files in a folder inside this one and further down, by their names here, as they are now."""

    @abstractmethod
    def identity(self, name: str) -> Identity:
        """Size and tag of a file. In a store, the first answer about a file holds until `forget`."""

    def seen(self, name: str) -> Identity | None:
        """Identity of a file as far as it is known without asking a store; None where it is not known."""
        return None

    def forget(self, name: str) -> None:  # noqa: B027  # local folders remember nothing
        """Ask anew at the next use of this file, which may have been replaced."""

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.identity(name).size

    def has(self, name: str) -> bool:
        """Whether there is such a file that may be read."""
        try:
            self.identity(name)
        except (FileMissing, AccessDenied):
            return False
        return True

    @abstractmethod
    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> bytes | memoryview:
        """Exactly the bytes from `start` up to `stop`, by one request if all goes well.

        Args:
            stopped: Give up waiting as soon as this is done.
        """

    @abstractmethod
    def open_stream(self, name: str, *, stopped: Stop | None = None) -> io.BufferedReader:
        """The file, open for sequential reading from its start. The caller closes it."""

    @abstractmethod
    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        """A small file as a whole. Raises StorageError for one that has more than `max_bytes`."""

    def map_file(self, name: str, *, max_bytes: int) -> memoryview:
        """A whole file, read-only: mapped where it is local; elsewhere in memory, if it has at most `max_bytes`."""
        return memoryview(self.read_file(name, max_bytes=max_bytes))

    def read_now(self, name: str, *, max_bytes: int) -> bytes | None:
        """A small file as it is now, whatever it was before; None where there is none."""
        self.forget(name)
        try:
            return self.read_file(name, max_bytes=max_bytes)
        except FileMissing:
            return None

    def identity_now(self, name: str) -> Identity | None:
        """Size and tag of a file as it is now; None where there is none."""
        self.forget(name)
        with contextlib.suppress(FileMissing):
            return self.identity(name)
        return None

    def close(self) -> None:  # noqa: B027  # stores keep no file open
        """Close open files. The folder can be used again."""

    def __truediv__(self, name: str) -> "File":
        return File(self, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and (type(other), other.address) == (type(self), self.address)

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class WritableFolder(Folder):
    """A folder that can be written to, while others may write to it, too. Missing folders are made."""

    @abstractmethod
    def folder(self, name: str) -> "WritableFolder":
        """The folder of this name inside this one. Nothing is created."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise ConfigError or StorageError where surely nothing can be written. Nothing is written to find out."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Store a small file, whole or not at all. When this returns, it survives a power cut."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Store a small file unless there is one of this name. Of several callers at a time exactly one gets True."""

    @abstractmethod
    def writing(self, name: str, *, scratch_folder: Path | None = None) -> AbstractContextManager[BinaryIO]:
        """A binary file that is stored under `name` when the block ends well, whole or not at all.

        Args:
            scratch_folder: Where it is written first; by default beside the file, or in the system's temporary folder.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if there is one."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Give a file another name, where it replaces what is there. Stopped at any moment, it can be repeated.

        A store copies the file and then removes the original, so there both may exist for a while.
        """

    @abstractmethod
    def delete_below(self, name: str) -> None:
        """Remove a folder inside this one with all its files, if there is one."""


class File(NamedTuple):
    """A file of a folder; its text is its full address, safe to show."""

    folder: Folder
    name: str

    def size(self) -> int:
        """See `Folder.size`."""
        return self.folder.size(self.name)

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """See `Folder.read`."""
        return self.folder.read(self.name, start, stop)

    def open_stream(self) -> io.BufferedReader:
        """See `Folder.open_stream`."""
        return self.folder.open_stream(self.name)

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.name else str(self.folder)
