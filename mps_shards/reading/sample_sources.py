"""The contract of a source of samples, which plans the batches of an epoch in order.

There are three sources: shard sets on a local disk (`indexed_source`), shard sets in an object store, whose samples are
fetched in advance (`remote_source`), and foreign shards, which are streamed (`foreign_source`).
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
    """The part of an epoch that an iteration reads.

    Attributes:
        seed: seed of the order and of the augmentation.
        epoch: number of the epoch.
        start: position at which the iteration begins.
        batch_size: number of samples of a batch on one rank.
        share: rank, and DataLoader worker if there are any.
        remainder, drop_last: handling of the last samples of the epoch, see `Deal`.
    """

    seed: int
    epoch: int
    start: int
    batch_size: int
    share: Share
    remainder: Remainder
    drop_last: bool

    def deal(self, samples: int | None) -> Deal:
        """Return the batches of this request; `samples` is the number of samples of the epoch, or None if unknown."""
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
        """Return whether to continue with the next shard; `share` is 1 / (number of shards)."""
        ...


def refused(error: ShardError, *, shard: str, share: float) -> bool:
    """Return False, so that the error of a damaged shard is raised."""
    return False


class Source(Protocol):
    """A source of the samples of epochs.

    Attributes:
        samples: number of samples of an epoch; None if it is not known before the end.
        task: kind of the targets; None if it is not known before the first sample.
        classes: class names; a label is an index into this list. Empty if they are not known.
        ignore_index: label id that is not a class; None if there is none.
        columns: names of the numbers that are the target of a regression set.
        fingerprint: values that identify the data and their order, by name, without the seed.
    """

    samples: int | None
    task: Task | None
    classes: tuple[str, ...]
    ignore_index: int | None
    columns: tuple[str, ...]
    fingerprint: dict[str, Any]

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """Yield the plans of the batches of a request, in order. Runs in one thread at a time.

        Args:
            request: the part of an epoch to read.
            damaged: function that decides whether to continue after a damaged foreign shard.
        """
        ...

    def stop(self, request: Request) -> None:
        """Wake every thread that waits to read a sample of a request, because its samples are no longer needed."""
        ...

    def traffic(self) -> Traffic:
        """Return the counts of this process's requests to object stores so far."""
        ...

    def close(self) -> None:
        """Close open files. The source can be used again."""
        ...
