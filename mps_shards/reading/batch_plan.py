"""Contract of batch plans, which state a batch's samples and the cursor after it before any sample is read."""

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import RawSample

__all__ = ["BatchPlan", "SampleName", "Spans"]

# [samples, 4]: descriptor of the open tar, offset and size of each sample, and its position in the epoch's sequence
Spans: TypeAlias = npt.NDArray[np.int64]


class SampleName(NamedTuple):
    """Shard and key of a sample, for error messages. `key` is None if the sample has not been read."""

    shard: str
    key: str | None


class BatchPlan(Protocol):
    """Plan of a batch, which reads the batch's samples. Each kind of source implements it.

    Attributes:
        positions: positions of the samples in the epoch's sequence.
        next_position: position of the cursor once all ranks have delivered this batch.
    """

    positions: list[int]
    next_position: int

    @property
    def task(self) -> Task | None:
        """Kind of the targets of the samples; None if it is in doubt, and then reading a sample raises an error."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, row: int) -> RawSample:
        """Return the sample of a row. Any thread may call this method, once for each row."""
        ...

    def opened(self, first: int, last: int) -> AbstractContextManager[Spans | None]:
        """Keep the tars of rows `first` to `last - 1` open in the block, for the native kernel.

        The result is None if only `read` can read the samples, or can say what is wrong.
        """
        ...

    def name(self, row: int) -> SampleName:
        """Return the name of a row's sample for messages, without reading the sample."""
        ...
