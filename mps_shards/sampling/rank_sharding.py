"""Distribution of an epoch's positions over ranks, batches and DataLoader workers by arithmetic.

Rank r of R takes the positions start + r, start + r + R, and so on. A batch consists of `batch_size` consecutive
positions of a rank. Worker w of W makes the batches w, w + W, and so on; DataLoader takes batches from its workers in
turn, so that they are in order again. The batches number k of all ranks together are a slice of the epoch's sequence,
so the numbers of ranks and workers only decide which process reads which samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mps_shards.sampling.order import Numbers
from mps_shards.sampling.rank import Share

__all__ = ["Deal", "Remainder"]

Remainder: TypeAlias = Literal["pad", "drop", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """The batches of one share of an epoch.

    Attributes:
        samples: number of positions of the epoch; None if it is unknown, and then only `after` can be used.
        start: position at which the iteration begins.
        batch_size: number of samples of a batch on one rank.
        share: rank and DataLoader worker whose batches these are.
        remainder: handling of the last samples if there are not enough for every rank. "pad" fills up with the epoch's
            first samples, "drop" leaves the last samples out, "keep" lets ranks differ by one sample.
        drop_last: whether a last batch that is not full is left out.
    """

    samples: int | None
    start: int
    batch_size: int
    share: Share
    remainder: Remainder
    drop_last: bool

    @property
    def count(self) -> int:
        """Number of samples of this rank."""
        left, world_size = max(0, self._samples() - self.start), self.share.world_size
        if self.remainder == "pad":
            return -(-left // world_size)
        if self.remainder == "drop":
            return left // world_size
        return len(range(self.share.rank, left, world_size))

    @property
    def worker_count(self) -> int:
        """Number of samples of this worker, exact to within one batch."""
        return -(-self.count // self.share.num_workers)

    @property
    def steps(self) -> int:
        """Number of batches of this rank, over all its workers."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def positions(self, step: int) -> Numbers:
        """Return int64 positions of this rank's batch number `step`; those of padding are at the epoch's start."""
        first, last = step * self.batch_size, min((step + 1) * self.batch_size, self.count)
        numbers = np.arange(first, last, dtype=np.int64)
        return (self.start + self.share.rank + numbers * self.share.world_size) % self._samples()

    def after(self, step: int) -> int:
        """Return the cursor's position once all ranks have delivered batch number `step`; it is equal on all ranks.

        After the last batch, it is the end of the epoch, even if samples are left out. With remainder="keep", another
        rank may have one more batch, so it is the position after this batch.
        """
        position = self.start + (step + 1) * self.batch_size * self.share.world_size
        if self.samples is None:
            return position
        if step + 1 >= self.steps and self.remainder != "keep":
            return self.samples
        return min(position, self.samples)

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the batches that this worker makes."""
        return iter(range(self.share.worker, self.steps, self.share.num_workers))

    def _samples(self) -> int:
        if self.samples is None:
            raise TypeError("the number of samples is not known before the end of the epoch")
        return self.samples
