"""Random ranks of the samples within each class, for drawing a given number of samples from each class.

The samples are not sorted completely, and their random keys are not stored: a histogram of the keys shows in which
bucket the limit of each class lies, and only the samples of these buckets are sorted. 100 million samples take seconds,
and the memory of one mask.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mps_shards.shards import keyed

__all__ = ["Mask", "RandomRanks"]

Mask = npt.NDArray[np.bool_]

_CHUNK = 1 << 20  # samples that are ranked at a time, so that their keys and buckets stay in the CPU's cache
_CELLS, _FEWEST_CELLS = 1 << 21, 1 << 12  # most and fewest cells of the histogram over all groups; at most 16 MB


class RandomRanks:
    """Ranks of samples within their groups, in a random order that depends only on `stream`, `seed` and `use`.

    Args:
        groups: group number of each sample, from 0; None if all samples form one group.
        sizes: number of samples of each group.
        stream: purpose of the random numbers.
        seed: seed of the random numbers.
        use: number that distinguishes several uses of the same stream and seed.
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
        """Return a mask of the samples with a rank from `low` up to, not including, `high` in their group.

        Ranks wrap around: if `high` exceeds the size of a group, its lowest ranks are included.
        """
        wraps = high > self._sizes
        mask = self.below(np.minimum(high, self._sizes)) & ~self.below(low)
        if wraps.any():
            mask |= self.below(np.where(wraps, high - self._sizes, 0))
        return mask

    def below(self, limits: npt.NDArray[np.int64]) -> Mask:
        """Return a mask of the samples whose rank is below the limit of their group."""
        cumulative = np.cumsum(self._counted(), axis=1)
        # the bucket in which the limit of each group lies, and how many samples of this bucket are below the limit
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
        """Yield for each chunk of samples: the number of its first sample, their groups, and their random keys."""
        for number in range(-(-self._samples // _CHUNK)):
            first = number * _CHUNK
            size = min(_CHUNK, self._samples - first)
            keys = keyed.bits(self._stream, size, seed=self._seed, a=number, b=self._use)
            groups = np.zeros(1, np.int64) if self._groups is None else self._groups[first : first + size]
            yield first, groups.astype(np.int64), keys
