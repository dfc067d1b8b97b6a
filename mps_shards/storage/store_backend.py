"""What each kind of store can do, in single attempts. `StoreFolder` repeats them and never mixes two objects."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from mps_shards.errors import StorageError
from mps_shards.storage.folder import Identity, Stop

__all__ = ["Answer", "FileThere", "NoConditions", "NoRanges", "StoreBackend", "Transient"]


class Answer(NamedTuple):
    """The identity of the object that answered, and its bytes from the requested offset on."""

    identity: Identity
    pieces: Iterator[bytes] | Iterator[memoryview]


class Transient(Exception):
    """An attempt failed in a way that may pass. The text holds no secrets."""


class FileThere(StorageError):
    """There already is such an object."""


class NoRanges(Exception):
    """The server cannot send a part of an object."""


class NoConditions(Exception):
    """The store cannot promise to keep an existing object."""


class StoreBackend(Protocol):
    """One folder of one store, to which others may write at the same time. No folder need be made first.

    Raises `Transient`, `NoRanges`, or StorageError for what another attempt cannot change.

    Attributes:
        tells_identity: Each answer is known to be of the object that its identity names.
    """

    tells_identity: bool

    def head(self, name: str) -> Identity:
        """What is stored under a name."""
        ...

    def get(self, name: str, start: int, stop: int | None, stopped: Stop | None = None) -> Answer:
        """Bytes from `start` up to `stop`, or to the object's end; gives up as soon as `stopped` is done."""
        ...

    def listed(self) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders directly in the folder, sorted."""
        ...

    def below(self, folder: str) -> dict[str, Identity]:
        """All objects in a folder inside this one and further down, by their names here."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Store an object, whole or not at all."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Store a small object where there is none. Raises `FileThere`, or `NoConditions`."""
        ...

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store a file's content from its start, whole or not at all, in parts where it is large."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; where there is none, `FileMissing` or nothing."""
        ...
