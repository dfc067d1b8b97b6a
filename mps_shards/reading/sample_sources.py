"""The contract of a source of samples, which plans the batches of an epoch in order.

There are three sources: shard sets on a local disk (`indexed_source`), shard sets in a store, whose samples are fetched
ahead of need (`remote_source`), and tars without a manifest, which are streamed (`foreign_source`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from mps_shards.errors import ShardError
from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.sampling.rank import Share
from mps_shards.sampling.rank_sharding import Deal, Remainder
from mps_shards.shards.manifest import Task
from mps_shards.storage.folder import Traffic

__all__ = ["Damaged", "Request", "Source", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The requested part of an epoch. `batch_size` is the number of samples of a batch on one rank."""

    seed: int
    epoch: int
    start: int
    batch_size: int
    share: Share
    remainder: Remainder
    drop_last: bool

    def deal(self, samples: int | None) -> Deal:
        """Return the batches of this request in an epoch of so many samples; None if their number is not known."""
        return Deal(
            samples=samples,
            start=self.start,
            batch_size=self.batch_size,
            share=self.share,
            remainder=self.remainder,
            drop_last=self.drop_last,
        )


class Damaged(Protocol):
    """A function that decides whether to continue after a damaged shard."""

    def __call__(self, error: ShardError, *, shard: str, share: float) -> bool:
        """Return whether to continue with the next shard; the damaged one is `share` of all shards, 0..1."""
        ...


def refused(error: ShardError, *, shard: str, share: float) -> bool:
    """Never continue."""
    return False


class Source(Protocol):
    """A source of samples by position.

    Attributes:
        samples: Number of samples of an epoch; None if it is not known before the end.
        task: Kind of the targets; None until the first sample was seen.
        ignore_index: Mask value that is not a class, if known.
        classes: Class names; a label is an index into this list. Empty if unknown.
        columns: Names of the numbers that are the target, for regression.
        fingerprint: Values that identify the data and their order, without the seed.
    """

    samples: int | None
    task: Task | None
    classes: tuple[str, ...]
    ignore_index: int | None
    columns: tuple[str, ...]
    fingerprint: dict[str, Any]

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """Yield the plans of the batches of one share. Runs in one thread at a time.

        Args:
            damaged: Decides whether to continue if the rest of a foreign shard is damaged.
        """
        ...

    def stop(self, request: Request) -> None:
        """Wake every thread that waits to read a sample of this request, whose plans are no longer needed."""
        ...

    def traffic(self) -> Traffic:
        """Return the counts of this process's requests to stores so far."""
        ...

    def close(self) -> None:
        """Close open files. The source can be used again."""
        ...
