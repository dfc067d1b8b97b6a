"""The contract of a folder, local or in a store, whose files are listed, read and written by name."""

import contextlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple, TypeAlias

from mps_shards.errors import StorageError

__all__ = ["AccessDenied", "File", "FileMissing", "Folder", "Identity", "Stop", "Traffic", "WritableFolder"]

Stop: TypeAlias = Future[None]  # done as soon as the requested bytes are no longer needed


class Identity(NamedTuple):
    """Size of a file, and its etag or time of change ("" if unknown): a replaced file has another identity."""

    size: int
    tag: str


class FileMissing(StorageError):
    """A file does not exist."""


class AccessDenied(StorageError):
    """The store refuses access. Amazon S3 also does so for a missing object in a bucket that may not be listed."""


_counting = Lock()
os.register_at_fork(before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_counting.release)


@dataclass(slots=True)
class Traffic:
    """Counts of the requests of this process to a store so far.

    Attributes:
        requests: Number of requests that were sent, including repeated ones.
        bytes: Number of bytes that arrived.
        retries: Number of requests that were repeated.
        hits: Number of files that a cache already held.
        waited_s: Seconds that readers waited for bytes, added up over all readers.
    """

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    hits: int = 0
    waited_s: float = 0.0

    def add(self, **more: float) -> None:
        """Add to the counts of these names. May be called from any thread."""
        with _counting:
            for name, amount in more.items():
                setattr(self, name, getattr(self, name) + amount)

    @classmethod
    def sum(cls, parts: "Sequence[Traffic]") -> "Traffic":
        """Return the sum of several counts.

        The counts come as a sequence, because Ctrl-C inside a generator would keep the generator's files open.
        """
        counts = zip(*[part._counts() for part in parts], strict=True)
        return cls(*[sum(values) for values in counts])

    def since(self, earlier: "Traffic") -> "Traffic":
        """Return the difference to earlier counts."""
        counts = zip(self._counts(), earlier._counts(), strict=True)
        return Traffic(*[now - before for now, before in counts])  # type: ignore[arg-type]  # as above

    def _counts(self) -> tuple[int, int, int, int, float]:
        return self.requests, self.bytes, self.retries, self.hits, self.waited_s


class Folder(ABC):
    """Files of one folder, by name. Names may contain slashes. Safe to use from any thread, to pickle and to fork.

    Every method raises `StorageError` if the disk or store refuses the request, and `FileMissing` if a file does not
    exist. ``str(folder)`` is the folder's address without passwords and queries.

    Attributes:
        address: Full address, equal for equal folders. It may contain secrets and must not be shown.
        path: Path of a local folder; None for a folder in a store.
        traffic: Counts of requests so far; all zero for a local folder.
        tells_identity: Whether a replaced file is always noticed. If not, contents should be verified.
        waits: Whether reading waits for a network, so that reading ahead is worthwhile.
    """

    address: str
    path: Path | None = None
    traffic: Traffic
    tells_identity: bool = True
    waits: bool = False

    @property
    def name(self) -> str:
        """Last part of the folder's path."""
        return str(self).rstrip("/").rpartition("/")[2]

    @abstractmethod
    def folder(self, name: str) -> "Folder":
        """Return the subfolder of this name. Nothing is created."""

    @abstractmethod
    def check(self) -> None:
        """Raise StorageError if this is certainly not a folder. A store is not asked, because any prefix may exist."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the files directly in the folder, sorted."""

    @abstractmethod
    def subfolders(self) -> list[str]:
        """Return the names of the folders directly in the folder, sorted."""

    @abstractmethod
    def below(self, name: str = "") -> dict[str, Identity]:
        """Return the present files in a subfolder and below it, by their names relative to this folder."""

    @abstractmethod
    def identity(self, name: str) -> Identity:
        """Return size and tag of a file. In a store, the first answer about a file is kept until `forget`."""

    def seen(self, name: str) -> Identity | None:
        """Return size and tag of a file if they are known without a request to a store, else None."""
        return None

    def forget(self, name: str) -> None:  # noqa: B027  # local folders remember nothing
        """Drop the known identity of a file, which may have been replaced, so that the next use asks for it again."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return self.identity(name).size

    def has(self, name: str) -> bool:
        """Whether a file of this name exists and may be read."""
        try:
            self.identity(name)
        except (FileMissing, AccessDenied):
            return False
        return True

    @abstractmethod
    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> bytes | memoryview:
        """Return exactly the bytes from `start` up to `stop`, by one request if no attempt fails.

        Args:
            stopped: Give up waiting as soon as this is done.
        """

    def opened(self, names: Sequence[str]) -> AbstractContextManager[list[int] | None]:
        """Keep files open in the block, for code that reads them itself.

        The result is the file descriptor of each name, in order; None if only `read` can read the files, or can say
        what is wrong.
        """
        return contextlib.nullcontext()

    @abstractmethod
    def open_stream(self, name: str) -> io.BufferedReader:
        """Open a file for sequential reading from its start. The caller closes the file."""

    @abstractmethod
    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a small file. Raises StorageError if it has more than `max_bytes`."""

    def map_file(self, name: str, *, max_bytes: int) -> memoryview:
        """Return a whole file, read-only: a local file is mapped, others are read into memory up to `max_bytes`."""
        return memoryview(self.read_file(name, max_bytes=max_bytes))

    def read_now(self, name: str, *, max_bytes: int) -> bytes | None:
        """Return the present content of a small file, whatever was known about it; None if it does not exist."""
        self.forget(name)
        try:
            return self.read_file(name, max_bytes=max_bytes)
        except FileMissing:
            return None

    def identity_now(self, name: str) -> Identity | None:
        """Return the present size and tag of a file; None if it does not exist."""
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
    """A folder that can be written to, also by several processes at once. Missing folders are created."""

    @abstractmethod
    def folder(self, name: str) -> "WritableFolder": ...

    @abstractmethod
    def check_writable(self) -> None:
        """Raise ConfigError or StorageError if the folder is certainly not writable. The check writes nothing."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Store a small file, completely or not at all. After the call, the file survives a power cut."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Store a small file unless its name exists. Of several simultaneous callers, at most one gets True.

        The response of a store can get lost. The repeated request then finds the file, and the caller that stored it
        gets False. So a caller that gets False must compare the file with its own content.
        """

    @abstractmethod
    def writing(self, name: str, *, scratch_folder: Path | None = None) -> AbstractContextManager[BinaryIO]:
        """Open a binary file that is stored under `name`, completely, when the block ends without an error.

        Args:
            scratch_folder: Folder for writing; by default the file's own, for a store the system's temporary folder.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it exists."""

    @abstractmethod
    def move(self, name: str, to: str) -> None:
        """Rename a file; an existing file of the new name is replaced. An interrupted move can be repeated.

        A store copies the file and then removes the original, so both may exist for a while.
        """

    @abstractmethod
    def delete_below(self, name: str) -> None:
        """Remove a subfolder with all its files, if it exists."""


class File(NamedTuple):
    """A file of a folder. ``str(file)`` is its full address without secrets."""

    folder: Folder
    name: str

    def size(self) -> int:
        """Return the size in bytes."""
        return self.folder.size(self.name)

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return exactly the bytes from `start` up to `stop`."""
        return self.folder.read(self.name, start, stop)

    def open_stream(self) -> io.BufferedReader:
        """Open the file for sequential reading from its start. The caller closes the file."""
        return self.folder.open_stream(self.name)

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}" if self.name else str(self.folder)
