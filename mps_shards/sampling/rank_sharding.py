"""Dealing an epoch's positions to ranks, into batches, and to torch workers: arithmetic alone.

Rank r of R takes positions start + r (mod R); a batch is `batch` consecutive ones of those; worker w of W makes the
batches w, w + W, …, which DataLoader's round robin puts back in order. The union over the ranks of batch k is a slice
of the sequence, so nothing depends on how many ranks or workers there are but the share of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mps_shards.sampling.order import Numbers
from mps_shards.sampling.rank import Place

__all__ = ["Deal", "Remainder"]

Remainder: TypeAlias = Literal["pad", "drop", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """One place's batches of an epoch.

    Attributes:
        samples: positions of the epoch.
        start: position at which this iteration begins.
        batch: samples of a batch on one rank.
        remainder: what happens to the last samples where they do not fill a row of ranks. "pad" wraps to the epoch's
            start, "drop" leaves them out, "keep" lets ranks differ by one.
        drop_last: leave out a last batch that is not full.
    """

    samples: int
    start: int
    batch: int
    place: Place
    remainder: Remainder
    drop_last: bool

    @property
    def count(self) -> int:
        """Samples of this rank."""
        left, world = max(0, self.samples - self.start), self.place.world
        if self.remainder == "pad":
            return -(-left // world)
        if self.remainder == "drop":
            return left // world
        return len(range(self.place.rank, left, world))

    @property
    def own_count(self) -> int:
        """Samples of this worker, to within a batch."""
        return -(-self.count // self.place.workers)

    @property
    def steps(self) -> int:
        """Batches of this rank, over all its workers."""
        return self.count // self.batch if self.drop_last else -(-self.count // self.batch)

    def positions(self, step: int) -> Numbers:
        """Positions of this rank's batch number `step`, wrapped into the epoch."""
        first, last = step * self.batch, min((step + 1) * self.batch, self.count)
        places = np.arange(first, last, dtype=np.int64)
        return (self.start + self.place.rank + places * self.place.world) % self.samples

    def after(self, step: int) -> int:
        """Position of the cursor once every rank has delivered this batch: the same on all ranks.

        The last batch ends the epoch, also where samples are left out after it; with "keep" another rank may have more.
        """
        if step + 1 >= self.steps and self.remainder != "keep":
            return self.samples
        return min(self.start + (step + 1) * self.batch * self.place.world, self.samples)

    def __iter__(self) -> Iterator[int]:
        """Numbers of the batches that this worker makes."""
        return iter(range(self.place.worker, self.steps, self.place.workers))
