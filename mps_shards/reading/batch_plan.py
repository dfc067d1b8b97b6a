"""The batches of an epoch before anything of them is read: which samples, and where the cursor stands afterwards."""

from typing import NamedTuple, Protocol

from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import RawSample

__all__ = ["BatchPlan", "SampleName"]


class SampleName(NamedTuple):
    """What an error message calls a sample. `key` is None where the sample has not been read."""

    shard: str
    key: str | None


class BatchPlan(Protocol):
    """A batch that is to be made. Each kind of source has its own, which knows how to read a sample of it.

    Attributes:
        positions: Of the samples in the epoch's sequence.
        next_position: Where the cursor stands once the batch is delivered on all ranks.
    """

    positions: list[int]
    next_position: int

    @property
    def task(self) -> Task | None:
        """What the targets of the samples are; None where that is in doubt, and then reading them raises an error."""
        ...

    def __len__(self) -> int:
        """The number of samples."""
        ...

    def read(self, row: int) -> RawSample:
        """The sample of a row. Called from any thread, once a row."""
        ...

    def name(self, row: int) -> SampleName:
        """What messages call the sample of a row, without reading it."""
        ...
