"""What packing needs of the place it packs to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from mps_shards.packing.pack_report import PackPlan, Skipped
from mps_shards.shards.manifest import MANIFEST_NAME
from mps_shards.storage.folder import Folder
from mps_shards.storage.local_disk import PART

__all__ = ["MARKER", "SKIPPED_NAME", "STATE", "Completion", "Destination"]

STATE = ".pack"
SKIPPED_NAME = "skipped.jsonl"
# In each set's folder from its first moment to its last: a folder with a .part is never taken for a finished set.
MARKER = MANIFEST_NAME + PART


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a finished shard.

    Attributes:
        size: in bytes.
        rows: of the index, as bytes.
        labels: class ids, as the bytes of ``labels.npy`` behind its header.
        tag: by which the store tells this object from others; "" in a folder.
        stamps: digests of the stamps of the planned entries, 8 bytes each; see `Stamp`.
        is_sure: whether equal stamps prove that no entry has changed.
    """

    samples: int
    size: int
    sha256: str
    rows: bytes
    labels: bytes
    rotated: int = 0
    tiled: int = 0
    skipped: tuple[Skipped, ...] = ()
    tag: str = ""
    stamps: bytes = b""
    is_sure: bool = False


class Destination(Protocol):
    """OUT, with the plan and the completion records. Holds nothing open: it can travel to other machines."""

    def where(self, split: str = "") -> Path | str:
        """OUT, or a set's folder in it, to be shown."""
        ...

    def set_folder(self, split: str) -> Path | Folder:
        """The folder of a set, to be opened."""
        ...

    def plan(self) -> PackPlan | None:
        """The plan that is being carried out, if any.

        Raises:
            DataError: it is damaged, or was made by another version.
        """
        ...

    def occupied(
        self, plan: PackPlan, *, shared: bool = False, overwrite: bool = False
    ) -> "AbstractContextManager[Destination]":
        """Hold OUT for a plan, which is set down in it; gives the place to work in.

        If the block fails, finished shards are kept; where there are none, or the plan is not resumable, OUT is left as
        it was.

        Args:
            shared: whether other processes do their parts of this plan meanwhile; then nothing is ever taken back.
            overwrite: remove the sets, or the unfinished pack, that lie there.

        Raises:
            ConfigError: another process packs into it, or it holds another plan, a finished set, or anything else.
            StorageError: it cannot be written to.
        """
        ...

    def anywhere(self) -> "Destination":
        """The same place for processes that work in other folders."""
        ...

    def completion(self, shard: str) -> Completion | None:
        """The record of a shard, if it is finished."""
        ...

    def complete(self, split: str, shard: str, completion: Completion) -> None:
        """Record that a shard is finished."""
        ...

    def holds(self, split: str, shard: str, done: Completion) -> bool:
        """Whether the shard that was recorded as finished is still there, unharmed."""
        ...

    def finished(self, split: str, shards: Sequence[str]) -> dict[str, Completion]:
        """Return the records of the shards that are finished, as far as names and sizes show it."""
        ...

    def writing(self, split: str, shard: str) -> AbstractContextManager[BinaryIO]:
        """A shard that appears, whole, when the block ends well."""
        ...

    def remove(self, split: str, shard: str) -> None:
        """Remove a shard."""
        ...

    def put(self, split: str, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        ...

    def publish(self, split: str, manifest: bytes) -> None:
        """Write a set's manifest: now it is finished."""
        ...

    def leave(self) -> None:
        """Remove all that is only needed while packing: the sets are finished, or were never begun."""
        ...
