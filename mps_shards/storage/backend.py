"""What every backend can do, in single attempts: `RemoteFolder` adds patience to them, and never mixes two objects."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from threading import Lock
from typing import BinaryIO, NamedTuple, Protocol

from mps_shards.errors import StorageError

__all__ = [
    "AccessDenied",
    "Answer",
    "Backend",
    "FileMissing",
    "FileThere",
    "Identity",
    "NoConditions",
    "NoRanges",
    "Store",
    "Traffic",
    "Transient",
]


class Identity(NamedTuple):
    """What tells an object from one that takes its place: bytes, and its etag or time of change ("" if not told)."""

    size: int
    tag: str


class Answer(NamedTuple):
    """The object that an answer is of, and its bytes from the offset on that was asked for."""

    identity: Identity
    pieces: Iterator[bytes] | Iterator[memoryview]


class Transient(Exception):
    """An attempt failed in a way that may pass. Its text holds no secrets."""


class FileMissing(StorageError):
    """There is no such object."""


class FileThere(StorageError):
    """There is such an object already."""


class AccessDenied(StorageError):
    """The store refuses; Amazon's also where an object is missing and the folder may not be listed."""


class NoRanges(Exception):
    """The server cannot give a part of an object."""


class NoConditions(Exception):
    """The store cannot promise to leave an object alone that is there already."""


_counting = Lock()
os.register_at_fork(before=_counting.acquire, after_in_parent=_counting.release, after_in_child=_counting.release)


@dataclass(slots=True)
class Traffic:
    """What was asked of a store so far, by this process."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    hits: int = 0  # files that a cache had already
    waited_s: float = 0.0  # that readers waited for bytes which were not there yet, added up

    def add(self, **more: float) -> None:
        """Add to the figures of these names. From any thread."""
        with _counting:
            for name, amount in more.items():
                setattr(self, name, getattr(self, name) + amount)

    @classmethod
    def sum(cls, parts: "Iterable[Traffic]") -> "Traffic":
        """All of them together."""
        total = cls()
        for part in parts:
            total.add(**asdict(part))
        return total


class Backend(Protocol):
    """One folder of one store. Raises `Transient`, `NoRanges`, or StorageError for what trying again cannot mend.

    Attributes:
        tells_identity: each answer is known to be of the object that its identity names.
    """

    tells_identity: bool

    def head(self, name: str) -> Identity:
        """What is stored under a name."""
        ...

    def get(self, name: str, start: int, stop: int | None) -> Answer:
        """Bytes from `start` up to `stop`, or to the object's end."""
        ...

    def names(self) -> list[str]:
        """Files of the folder itself, not of those below."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Store an object, whole or not at all."""
        ...


class Store(Backend, Protocol):
    """A backend that others may write to meanwhile. Names may hold slashes; no folder need be made before."""

    def create(self, name: str, content: bytes) -> None:
        """Store a small object where there is none. Raises `FileThere`, or `NoConditions`."""
        ...

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store a file's content from its start, whole or not at all, in parts where it is large."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; where there is none, `FileMissing` or nothing."""
        ...

    def below(self, folder: str) -> dict[str, Identity]:
        """All objects in a folder of it and further down, by their names here."""
        ...
