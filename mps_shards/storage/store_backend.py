"""The contract of a store backend, which makes single attempts. `StoreFolder` repeats failed attempts."""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from mps_shards.errors import StorageError
from mps_shards.storage.folder import Identity, Stop

__all__ = ["AlreadyExists", "Answer", "NoConditions", "NoRanges", "StoreBackend", "Transient"]


class Answer(NamedTuple):
    """The identity of the object that answered, and its bytes from the requested offset on."""

    identity: Identity
    pieces: Iterator[bytes] | Iterator[memoryview]


class Transient(Exception):
    """An attempt failed, but another attempt may succeed. The text contains no secrets."""


class AlreadyExists(StorageError):
    """An object of this name exists already."""


class NoRanges(Exception):
    """The server cannot send a part of an object."""


class NoConditions(Exception):
    """The store cannot guarantee that an existing object is not overwritten."""


class StoreBackend(Protocol):
    """One folder of one store, to which other processes may write at the same time. Folders need not be created.

    Methods raise `Transient`, `NoRanges`, or StorageError for an error that another attempt cannot change.

    Attributes:
        tells_identity: Whether the bytes of an answer certainly belong to the object that its identity names.
    """

    tells_identity: bool

    def head(self, name: str) -> Identity:
        """Return size and tag of an object."""
        ...

    def get(self, name: str, start: int, stop: int | None, stopped: Stop | None = None) -> Answer:
        """Return the bytes from `start` up to `stop`, or to the object's end; stops as soon as `stopped` is done."""
        ...

    def listed(self) -> tuple[list[str], list[str]]:
        """Return the names of the files and of the folders directly in the folder, sorted."""
        ...

    def below(self, folder: str) -> dict[str, Identity]:
        """Return all objects in a subfolder and below it, by their names relative to this folder."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Store an object, completely or not at all."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Store a small object if its name does not exist. Raises `AlreadyExists`, or `NoConditions`."""
        ...

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store a file's content from its start, completely or not at all; large content is sent in parts."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object. If it does not exist, raises `FileMissing` or does nothing."""
        ...
