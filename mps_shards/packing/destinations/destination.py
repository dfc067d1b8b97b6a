"""The contract of a destination, which is the place that packing writes to."""

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
# Every set's folder holds this file until the set is finished: readers refuse a folder with a .part file.
MARKER = MANIFEST_NAME + PART


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The completion record of a finished shard.

    Attributes:
        size: size of the shard in bytes.
        rows: index rows of the shard, encoded as in ``index.npy``.
        labels: class ids of the samples, encoded as in ``labels.npy``.
        tag: etag of the shard in the store; "" for a local shard.
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
    """The place that a pack writes to, with its plan and completion records. Can be pickled, as no file stays open."""

    def where(self, split: str = "") -> Path | str:
        """Return the address of a set's folder, or of the destination itself, as messages show it."""
        ...

    def set_folder(self, split: str) -> Path | Folder:
        """Return the folder of a set, for opening the set."""
        ...

    def plan(self) -> PackPlan | None:
        """Return the plan of the unfinished pack, if there is one.

        Raises:
            DataError: the plan is damaged, or was made by another version.
        """
        ...

    def occupied(
        self, plan: PackPlan, *, shared: bool = False, overwrite: bool = False
    ) -> "AbstractContextManager[Destination]":
        """Reserve the destination for a plan, write the plan there, and yield the destination to work with.

        If the block fails, finished shards are kept. If no shard is finished, or the plan is not resumable, the
        destination is left as it was.

        Args:
            shared: whether other processes work on the same plan meanwhile; then a failure removes nothing.
            overwrite: remove the sets or the unfinished pack that the destination holds.

        Raises:
            ConfigError: another process packs into the destination, or it holds another plan, a set or other files.
            StorageError: the destination cannot be written to.
        """
        ...

    def absolute(self) -> "Destination":
        """Return this destination with an absolute path, for processes with another working directory."""
        ...

    def completion(self, shard: str) -> Completion | None:
        """Return the completion record of a shard, if the shard is finished."""
        ...

    def complete(self, split: str, shard: str, completion: Completion) -> None:
        """Record that a shard is finished."""
        ...

    def holds(self, split: str, shard: str, done: Completion) -> bool:
        """Whether the shard that was recorded as finished still exists undamaged."""
        ...

    def finished(self, split: str, shards: Sequence[str]) -> dict[str, Completion]:
        """Return the completion records of those shards that are finished, without reading the shards."""
        ...

    def writing(self, split: str, shard: str) -> AbstractContextManager[BinaryIO]:
        """Open a shard for writing. Its file appears when the block ends without an error."""
        ...

    def remove(self, split: str, shard: str) -> None:
        """Remove a shard."""
        ...

    def put(self, split: str, name: str, content: bytes) -> None:
        """Write a file, either completely or not at all."""
        ...

    def publish(self, split: str, manifest: bytes) -> None:
        """Write the manifest of a set, which makes the set finished."""
        ...

    def leave(self) -> None:
        """Remove every file that is needed only while packing, after the sets are finished."""
        ...
