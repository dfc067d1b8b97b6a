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
    """Which part of which epoch is wanted. `batch_size` counts the samples of one rank."""

    seed: int
    epoch: int
    start: int
    batch_size: int
    share: Share
    remainder: Remainder
    drop_last: bool

    def deal(self, samples: int | None) -> Deal:
        """The batches of this request in an epoch of so many samples; None where their number is not known."""
        return Deal(
            samples=samples,
            start=self.start,
            batch_size=self.batch_size,
            share=self.share,
            remainder=self.remainder,
            drop_last=self.drop_last,
        )


class Damaged(Protocol):
    """What is asked when a shard turns out to be damaged."""

    def __call__(self, error: ShardError, *, shard: str, share: float) -> bool:
        """Whether to go on with the next shard; this one is `share` of all shards, 0..1."""
        ...


def refused(error: ShardError, *, shard: str, share: float) -> bool:
    """Never go on."""
    return False


class Source(Protocol):
    """Samples by position.

    Attributes:
        samples: Of an epoch; None where their number is not known before its end.
        task: What the targets are; None until the first sample was seen.
        ignore_index: Mask value that stands for no class, if known.
        classes: Their names; a label is an index into this list. Empty where unknown.
        columns: Names of the numbers that are the target, for regression.
        fingerprint: Of the data and their order, apart from the seed.
    """

    samples: int | None
    task: Task | None
    classes: tuple[str, ...]
    ignore_index: int | None
    columns: tuple[str, ...]
    fingerprint: dict[str, Any]

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """The batches of one share. To be pulled by one thread at a time.

        Args:
            damaged: Decides whether to go on when the rest of a foreign shard turns out to be damaged.
        """
        ...

    def stop(self, request: Request) -> None:
        """Wake every thread that waits to read a sample of this very request, whose plans are of no use any more."""
        ...

    def traffic(self) -> Traffic:
        """What this process has asked of stores so far."""
        ...

    def close(self) -> None:
        """Close open files. The source can be used again."""
        ...
