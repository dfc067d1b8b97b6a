"""A random order of the samples of each class, from which the first so many of each are taken.

No sorting and no array of random numbers: a histogram of the keys of each class says where its limit lies, and only the
samples near the limits are sorted. 100 million samples take seconds, and memory for one bit mask of theirs.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mps_shards.shards import keyed

__all__ = ["Mask", "RandomRanks"]

Mask = npt.NDArray[np.bool_]

_CHUNK = 1 << 20  # samples; their keys and buckets stay in the CPU's cache
_CELLS, _FEWEST_CELLS = 1 << 21, 1 << 12  # of the histogram, over all groups; 16 MB at most


class RandomRanks:
    """Ranks of samples within their groups, in a random order that depends on `stream`, `seed` and `use` alone.

    Args:
        groups: The group of each sample, 0 … sizes - 1; None where all samples are of one group.
        sizes: How many samples each group has.
        use: Tells apart several uses of the same stream and seed.
    """

    def __init__(
        self,
        groups: npt.NDArray[np.integer] | None,
        sizes: npt.NDArray[np.int64],
        *,
        stream: keyed.Stream,
        seed: int,
        use: int = 0,
    ):
        self._groups, self._sizes = groups, sizes
        self._stream, self._seed, self._use = stream, seed, use
        self._samples = int(sizes.sum())
        cells = min(_CELLS, max(_FEWEST_CELLS, self._samples // 8))
        bits = max(4, min(16, int(np.log2(cells / max(1, len(sizes))))))
        self._shift, self._buckets = np.uint64(64 - bits), 1 << bits
        self._histogram: npt.NDArray[np.int64] | None = None

    def between(self, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> Mask:
        """Which samples have a rank from `low` up to `high` of their group; past its end, ranks begin again at 0."""
        wraps = high > self._sizes
        mask = self.below(np.minimum(high, self._sizes)) & ~self.below(low)
        if wraps.any():
            mask |= self.below(np.where(wraps, high - self._sizes, 0))
        return mask

    def below(self, limits: npt.NDArray[np.int64]) -> Mask:
        """Which samples have a rank below the limit of their group."""
        cumulative = np.cumsum(self._counted(), axis=1)
        # the bucket in which each group's limit lies, and how many of its samples are below the limit
        bucket = (cumulative <= limits[:, None]).sum(axis=1)
        before = np.where(bucket > 0, cumulative[np.arange(len(limits)), np.maximum(bucket - 1, 0)], 0)
        wanted = limits - before
        mask = np.empty(self._samples, dtype=np.bool_)
        near: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.integer], npt.NDArray[np.uint64]]] = []
        for first, group, keys in self._chunks():
            buckets = (keys >> self._shift).astype(np.int64)
            limit = bucket[group]
            mask[first : first + len(keys)] = buckets < limit
            at = np.flatnonzero(buckets == limit)
            near.append((at + first, np.broadcast_to(group, len(keys))[at], keys[at]))
        if near:
            numbers, group, keys = (np.concatenate(parts) for parts in zip(*near, strict=True))
            order = np.lexsort((keys, group))
            starts = np.searchsorted(group[order], np.arange(len(limits)))
            rank = np.arange(len(order)) - starts[group[order]]
            mask[numbers[order[rank < wanted[group[order]]]]] = True
        return mask

    def _counted(self) -> npt.NDArray[np.int64]:
        if self._histogram is None:
            cells = len(self._sizes) * self._buckets
            histogram = np.zeros(cells, dtype=np.int64)
            for _, group, keys in self._chunks():
                cell = (keys >> self._shift).astype(np.int64)
                cell += group * self._buckets
                histogram += np.bincount(cell, minlength=cells)
            self._histogram = histogram.reshape(len(self._sizes), self._buckets)
        return self._histogram

    def _chunks(self) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
        """First number, groups and keys of some samples after the other."""
        for number in range(-(-self._samples // _CHUNK)):
            first = number * _CHUNK
            size = min(_CHUNK, self._samples - first)
            keys = keyed.bits(self._stream, size, seed=self._seed, a=number, b=self._use)
            groups = np.zeros(1, np.int64) if self._groups is None else self._groups[first : first + size]
            yield first, groups.astype(np.int64), keys
