"""The order of samples, as a pure function from a position in the epoch to a sample of the set.

1. Each shard is cut into blocks of at most `block` samples. Blocks are smaller in a small set, so that each lane has 16
   blocks (in a set of 1,000 samples, every sample is a block). All blocks are permuted by (seed, epoch).
2. The blocks form one line, of which each of the C lanes gets a contiguous part. The lengths of the lanes differ by at
   most one sample; the longer lanes come first.
3. In each lane, samples are shuffled within windows of `window / C` samples, by (seed, epoch, lane, window number).
4. Positions take the lanes in turn: position p is sample p // C of lane p % C.

This module knows nothing about ranks, workers or batches, so the sequence cannot depend on them. The sample at any
position is computed directly, so resuming does not replay earlier samples.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.shards import keyed

__all__ = ["Numbers", "Order", "PackedOrder", "Shuffle", "ShuffledOrder", "order_of"]

Numbers = npt.NDArray[np.int64]

# Blocks are made so small that each lane has this many. Otherwise a small set would hardly be mixed: 1,000 samples
# would form 16 blocks of 64. With 16 blocks per lane, 1 in 16 successive samples of a lane shares its block with the
# sample before it (tools/bench/shuffle.py).
_BLOCKS_A_LANE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """Options of the shuffle. They are part of a cursor's fingerprint, because other options give another sequence.

    Attributes:
        block: largest number of consecutive samples of a shard that stay together; the unit of reading.
        lanes: number of streams from which samples are taken in turn. In a batch of this size, all samples are of
            different blocks.
        window: number of samples, over all lanes, within which the order is random. Reading from an object store holds
            at most this many samples in memory.
    """

    block: int = 64
    lanes: int = 64
    window: int = 16384  # four blocks per lane; with ImageNet's 110 KB per sample 1.8 GB over all ranks

    def __post_init__(self) -> None:
        if self.block < 1 or self.lanes < 1 or self.window < self.lanes:
            raise ConfigError(f"block and lanes must be at least 1, and window at least lanes: {self}")


class PackedOrder:
    """The order of packing, in which positions are sample numbers."""

    def __init__(self, samples: int):
        self.samples = samples

    def at(self, positions: Numbers) -> Numbers:
        """Return the sample numbers at these positions."""
        return positions


class ShuffledOrder:
    """The shuffled sequence of one epoch. It must not be shared between threads.

    It takes 12 bytes of memory per block, and the permutations of the windows in use.

    Args:
        counts: number of samples of each shard.
    """

    def __init__(self, counts: Sequence[int], shuffle: Shuffle, *, seed: int, epoch: int):
        keyed.check_seed(seed, epoch)
        sizes = np.asarray(counts, dtype=np.int64)
        self.samples = int(sizes.sum())
        self._shuffle, self._seed, self._epoch = shuffle, seed, epoch
        self._span = shuffle.window // shuffle.lanes  # samples of one lane's window
        self._block = max(1, min(shuffle.block, self.samples // (_BLOCKS_A_LANE * shuffle.lanes)))
        per_shard = -(-sizes // self._block)
        self._shard_start = np.cumsum(sizes) - sizes
        self._first_block = np.cumsum(per_shard) - per_shard
        blocks = int(per_shard.sum())
        order = keyed.permutation(keyed.Stream.BLOCKS, blocks, seed=seed, epoch=epoch)
        self._blocks = order.astype(np.uint32 if blocks < 1 << 32 else np.int64)
        del order  # saves memory: a billion samples have 16 million blocks
        lengths = np.full(blocks, self._block, dtype=np.uint32 if self.samples < 1 << 32 else np.int64)
        lasts = (self._first_block + per_shard - 1)[per_shard > 0]
        lengths[lasts] = (sizes - (per_shard - 1) * self._block)[per_shard > 0]
        # end of each block in the line of permuted blocks
        self._line_stop = np.cumsum(lengths[self._blocks], dtype=np.int64)
        self._windows: OrderedDict[int, tuple[Numbers, set[int]]] = OrderedDict()

    def at(self, positions: Numbers) -> Numbers:
        """Return the sample numbers (in packed order) at these positions of the epoch."""
        lanes = self._shuffle.lanes
        lane, place = positions % lanes, positions // lanes
        window, inside = place // self._span, place % self._span
        shuffled = np.empty(len(positions), np.int64)
        for number in set(window.tolist()):
            chosen = window == number
            shuffled[chosen] = self._orders(number, lane[chosen])[lane[chosen], inside[chosen]]
        return self._on_line(self._lane_start(lane) + window * self._span + shuffled)

    def _lane_start(self, lane: Numbers) -> Numbers:
        length, longer = divmod(self.samples, self._shuffle.lanes)
        return lane * length + np.minimum(lane, longer)

    def _orders(self, number: int, lanes: Numbers) -> Numbers:
        """Return the random orders of the samples in window `number` of all lanes, of which these lanes are drawn.

        int64 [lanes, span]. Windows at the end of a lane are shorter, and the rest of their rows has no meaning.
        """
        orders, drawn = self._windows.setdefault(
            number, (np.zeros((self._shuffle.lanes, self._span), np.int64), set[int]())
        )
        for lane in set(lanes.tolist()) - drawn:
            length, longer = divmod(self.samples, self._shuffle.lanes)
            size = min(self._span, length + (lane < longer) - number * self._span)
            orders[lane, :size] = keyed.permutation(
                keyed.Stream.WINDOW, size, seed=self._seed, epoch=self._epoch, a=lane, b=number
            )
            drawn.add(lane)
        while len(self._windows) > 2:  # an iteration needs at most two windows of each lane
            self._windows.popitem(last=False)
        return orders

    def _on_line(self, places: Numbers) -> Numbers:
        """Return the sample numbers at these places in the line of permuted blocks."""
        at = np.searchsorted(self._line_stop, places, side="right")
        block = self._blocks[at].astype(np.int64)
        start = np.where(at > 0, self._line_stop[at - 1], 0)
        shard = np.searchsorted(self._first_block, block, side="right") - 1
        first = self._shard_start[shard] + (block - self._first_block[shard]) * self._block
        numbers: Numbers = first + places - start
        return numbers


Order = PackedOrder | ShuffledOrder


def order_of(counts: Sequence[int], shuffle: Shuffle | None, *, seed: int, epoch: int) -> Order:
    """Return the order of an epoch: shuffled, or the packed order if `shuffle` is None."""
    if shuffle is None:
        return PackedOrder(int(sum(counts)))
    return ShuffledOrder(counts, shuffle, seed=seed, epoch=epoch)
