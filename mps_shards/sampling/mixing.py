"""Mixing of several shard sets into one sequence by weights, as a pure function of (seed, epoch, position).

An epoch has as many positions as the sets have samples together. Each set gets a share of the positions in proportion
to its weight, exact to one sample. Reading a set continues from epoch to epoch: if a set gets fewer positions than it
has samples, one pass over it takes several epochs; if it gets more, an epoch has several passes, each in a new order.
So over the epochs every sample of a set is used equally often. With the default weights, which are the sizes of the
sets, an epoch holds every sample exactly once.
"""

from collections.abc import Sequence

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.sampling.apportionment import apportioned
from mps_shards.sampling.order import Numbers, Order, Shuffle, order_of
from mps_shards.shards import keyed

__all__ = ["MixedOrder", "shares"]

_GROUP = 1024  # positions of a group; in each group, every set gets its share to within one or two samples


def shares(sizes: Sequence[int], weights: Sequence[float] | None) -> list[int]:
    """Return how many positions of an epoch each set gets; the sum is the number of all samples.

    Args:
        sizes: number of samples of each set.
        weights: weight of each set; None for its size.

    Raises:
        ConfigError: a set has no weight or no samples, or a weight is not a positive number.
    """
    if weights is None:
        return list(sizes)
    if len(weights) != len(sizes):
        raise ConfigError(f"weights has {len(weights)} numbers for {len(sizes)} shard sets; give one for each set")
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError(f"weights must be positive numbers, not {list(weights)}")
    if not all(sizes):
        raise ConfigError(f"shard set number {list(sizes).index(0)} holds no samples, so it can have no weight")
    total, scale = sum(sizes), sum(weights)
    found: list[int] = apportioned(np.array([total * weight / scale for weight in weights]), total).tolist()
    return found


class MixedOrder:
    """The mixed sequence of one epoch. Sample numbers count through all sets, one set after the other.

    Args:
        counts: number of samples of each shard, for each set.
        weights: weight of each set; None for its size.
        shuffle: options of the shuffle; None for the order of packing.
    """

    def __init__(
        self,
        counts: Sequence[Sequence[int]],
        weights: Sequence[float] | None,
        shuffle: Shuffle | None,
        *,
        seed: int,
        epoch: int,
    ):
        sizes = [sum(each) for each in counts]
        self.samples = sum(sizes)
        self._counts, self._shuffle, self._seed, self._epoch = counts, shuffle, seed, epoch
        self._sizes = sizes
        self._offsets = np.cumsum([0, *sizes])[:-1]
        self._shares = shares(sizes, weights)
        self._largest = int(np.argmax(self._shares))
        self._group = max(_GROUP, len(sizes) ** 2)  # so large that the largest set's remainder below never decreases
        self._last_group = max(0, self.samples // self._group - 1)  # takes the remaining positions, for the same reason
        self._passes: dict[tuple[int, int], Order] = {}
        self._groups: dict[int, tuple[Numbers, Numbers]] = {}

    def at(self, positions: Numbers) -> Numbers:
        """Return the sample numbers at these positions of the epoch."""
        found = np.empty(len(positions), dtype=np.int64)
        groups = np.minimum(positions // self._group, self._last_group)
        for number in np.unique(groups).tolist():
            here = groups == number
            chosen, drawn = self._in_group(number)
            inside = positions[here] - number * self._group
            found[here] = self._numbers(chosen[inside], drawn[inside])
        return found

    def _taken(self, position: int) -> Numbers:
        """Return how many samples of each set come before a position, which is a group's start or the epoch's end."""
        taken = np.array([position * share // max(1, self.samples) for share in self._shares], dtype=np.int64)
        taken[self._largest] += position - taken.sum()
        return taken

    def _in_group(self, number: int) -> tuple[Numbers, Numbers]:
        """Return for each position of a group its set, and how many samples of that set precede it in this epoch."""
        found = self._groups.get(number)
        if found is None:
            first = number * self._group
            stop = first + self._group if number < self._last_group else self.samples
            before, after = self._taken(first), self._taken(stop)
            chosen = np.repeat(np.arange(len(self._sizes)), after - before)
            if self._shuffle is not None:
                order = keyed.permutation(keyed.Stream.MIX, len(chosen), seed=self._seed, epoch=self._epoch, a=number)
                chosen = chosen[order]
            else:  # evenly spread: sample n of the k samples of a set is at (n + 1/2) / k of the group
                spread = np.concatenate([(np.arange(k) + 0.5) / k for k in (after - before).tolist() if k] or [[]])
                chosen = chosen[np.argsort(spread, kind="stable")]
            drawn = np.empty(len(chosen), dtype=np.int64)
            for i in range(len(self._sizes)):
                mine = chosen == i
                drawn[mine] = before[i] + np.arange(mine.sum())
            found = chosen, drawn
            if len(self._groups) > 4:
                self._groups.pop(next(iter(self._groups)))
            self._groups[number] = found
        return found

    def _numbers(self, chosen: Numbers, drawn: Numbers) -> Numbers:
        found = np.empty(len(chosen), dtype=np.int64)
        for i in np.unique(chosen).tolist():
            mine = chosen == i
            draws = drawn[mine] + self._epoch * self._shares[i]
            passes, places = draws // self._sizes[i], draws % self._sizes[i]
            numbers = np.empty(len(draws), dtype=np.int64)
            for number in np.unique(passes).tolist():
                there = passes == number
                numbers[there] = self._pass(i, number).at(places[there])
            found[mine] = numbers + self._offsets[i]
        return found

    def _pass(self, i: int, number: int) -> Order:
        """Return the order of set `i` in pass `number` over the set, counted from 0 over all epochs."""
        found = self._passes.get((i, number))
        if found is None:
            found = order_of(self._counts[i], self._shuffle, seed=self._seed, epoch=number)
            if len(self._passes) > 2 * len(self._sizes):
                self._passes.pop(next(iter(self._passes)))
            self._passes[i, number] = found
        return found
