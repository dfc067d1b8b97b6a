"""Random ranks of the samples within each class, for drawing a number of samples of each class.

Neither all samples are sorted nor all random numbers stored: a histogram of the keys of each class shows the bucket of
its limit, and only the samples of these buckets are sorted. 100 million samples take seconds and one mask of memory.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mps_shards.shards import keyed

__all__ = ["Mask", "RandomRanks"]

Mask = npt.NDArray[np.bool_]

_CHUNK = 1 << 20  # samples; their keys and buckets stay in the CPU's cache
_CELLS, _FEWEST_CELLS = 1 << 21, 1 << 12  # cells of the histogram, over all groups; 16 MB at most


class RandomRanks:
    """Ranks of samples within their groups, in a random order that depends only on `stream`, `seed` and `use`.

    Args:
        groups: Group number of each sample, from 0; None if all samples form one group.
        sizes: Number of samples of each group.
        use: Number that distinguishes several uses of the same stream and seed.
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
        """Return a mask of the samples with a rank from `low` up to `high` in their group, wrapped at its size."""
        wraps = high > self._sizes
        mask = self.below(np.minimum(high, self._sizes)) & ~self.below(low)
        if wraps.any():
            mask |= self.below(np.where(wraps, high - self._sizes, 0))
        return mask

    def below(self, limits: npt.NDArray[np.int64]) -> Mask:
        """Return a mask of the samples with a rank below the limit of their group."""
        cumulative = np.cumsum(self._counted(), axis=1)
        # the bucket of each group's limit, and how many of the bucket's samples are below the limit
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
        """Yield chunks of samples: the first sample number, the groups and the keys."""
        for number in range(-(-self._samples // _CHUNK)):
            first = number * _CHUNK
            size = min(_CHUNK, self._samples - first)
            keys = keyed.bits(self._stream, size, seed=self._seed, a=number, b=self._use)
            groups = np.zeros(1, np.int64) if self._groups is None else self._groups[first : first + size]
            yield first, groups.astype(np.int64), keys
