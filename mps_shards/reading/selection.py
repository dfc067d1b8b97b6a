"""Selection of the samples of an epoch, and of how often each is used, by a subset, a balance and weights of sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.sampling.balance import Balance
from mps_shards.sampling.mixing import MixedOrder, shares
from mps_shards.sampling.order import Numbers, Order, Shuffle, order_of
from mps_shards.sampling.subset import Subset
from mps_shards.shardset.shard_set import ShardSet

__all__ = ["Selection"]


class Selection:
    """The samples of each epoch, in an order that is computed without reading samples.

    Labels and keys that a subset or a balance needs are read when the selection is created, and again in each process
    that unpickles it.

    Args:
        sets: shard sets. Samples are numbered through all sets in this order.
        weights: weights of the sets; None weights the sets by their sizes.
        shuffle: options of the shuffle; None for the order of packing.
        subset: options that choose a part of the samples; None for all samples.
        balance: options for how often each sample is used; None for once.

    Attributes:
        samples: number of samples of an epoch.

    Raises:
        ConfigError: the sets differ in task or classes, labels or keys that are needed are missing, the options
            exclude each other, or no samples are left.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        *,
        weights: Sequence[float] | None,
        shuffle: Shuffle | None,
        subset: Subset | None,
        balance: Balance | None,
    ):
        _check_alike(sets)
        shares([len(one) for one in sets], weights)  # raises ConfigError if the weights are not possible
        if balance is not None and weights is not None:
            raise ConfigError(
                "balance and weights of the sets exclude each other, because both decide how often samples are used"
            )
        if balance is not None and shuffle is None:
            raise ConfigError("balance needs shuffle=True")
        self.sets, self.weights, self.shuffle = sets, weights, shuffle
        self._subset, self._balance = subset, balance
        self._read()
        self.samples = sum(map(sum, self._counts))
        if balance is not None:
            self.samples = balance.epoch_length(self._labels, self.samples, self._names)

    def _read(self) -> None:
        sets, subset, balance = self.sets, self._subset, self._balance
        self._names = sets[0].classes
        self._labels = self._all_labels()
        self._numbers: npt.NDArray[np.integer] | None = None  # sample numbers of the subset
        self._counts = [one.counts for one in sets]
        if subset is not None:
            total = sum(map(len, sets))
            keyed = self._numbers_of(subset.key_list())
            self._numbers = subset.numbers(total, self._labels, names=self._names, keyed=keyed)
            self._counts = self._counts_of(self._numbers)
            if self._labels is not None:
                self._labels = self._labels[self._numbers]
        if balance is None or balance.samples is not None:
            self._labels = None  # no longer needed
        if balance is not None and balance.samples is not None and self._numbers is not None:
            weights = np.asarray(balance.samples)
            if len(weights) == sum(map(len, sets)):
                self._balance = Balance(
                    samples=weights[self._numbers], replacement=balance.replacement, length=balance.length
                )

    def numbers(self) -> npt.NDArray[np.integer]:
        """Return the numbers of the samples in the subset, in the order of the sets."""
        return np.arange(sum(map(len, self.sets))) if self._numbers is None else self._numbers

    def fingerprint(self) -> dict[str, Any]:
        """Return the part of a cursor's fingerprint that describes subset and balance; empty without them."""
        found = {"subset": self._subset, "balance": self._balance}
        return {name: each.described() for name, each in found.items() if each is not None}

    def order(self, *, seed: int, epoch: int) -> "Order | MixedOrder | _Selected":
        """Return the order of the samples in an epoch."""
        if self._balance is not None:
            draws = self._balance.draws(
                self._labels, sum(map(sum, self._counts)), names=self._names, seed=seed, epoch=epoch
            )
            numbers = draws.numbers if self._numbers is None else self._numbers[draws.numbers]
            return _Selected(numbers, order_of(draws.counts, self.shuffle, seed=seed, epoch=epoch))
        order: Order | MixedOrder
        if len(self.sets) == 1:
            order = order_of(self._counts[0], self.shuffle, seed=seed, epoch=epoch)
        else:
            order = MixedOrder(self._counts, self.weights, self.shuffle, seed=seed, epoch=epoch)
        return order if self._numbers is None else _Selected(self._numbers, order)

    def _all_labels(self) -> npt.NDArray[np.int32] | None:
        """Return the class index of every sample; None if the labels are not needed, or there are none.

        Raises:
            ConfigError: labels are needed, but the sets are not for classification.
        """
        subset, balance = self._subset, self._balance
        needed = (subset is not None and subset.needs_labels) or (balance is not None and balance.samples is None)
        if self.sets[0].task != "classification":
            if needed:
                raise ConfigError(
                    f"{self.sets[0].folder} is for {self.sets[0].task}, but a choice by class needs a set for "
                    "classification; use keys, fold or fraction, or Balance(samples=…)"
                )
            return None
        if not needed and subset is None:
            return None
        labels = [one.labels() for one in self.sets]
        return labels[0] if len(labels) == 1 else np.concatenate(labels)

    def _numbers_of(self, keys: list[str] | None) -> npt.NDArray[np.integer] | None:
        """Return the numbers of the samples with these keys, ascending; None if no keys are given."""
        if keys is None:
            return None
        missing = set(keys)
        wanted = frozenset(keys)
        numbers = []
        first = 0
        for one in self.sets:
            for number, key in enumerate(one.keys(), first):
                if key in wanted:
                    numbers.append(number)
                    missing.discard(key)
            first += len(one)
        if missing:
            some = sorted(missing)
            raise ConfigError(
                f"{len(missing)} of {len(wanted)} keys of the subset are not in {self.sets[0].folder}; "
                f"the first is {some[0]!r}"
            )
        return np.array(numbers, dtype=np.int64)

    def _counts_of(self, numbers: npt.NDArray[np.integer]) -> list[list[int]]:
        """Return how many of these samples are in each shard of each set."""
        stops = np.cumsum([0, *(count for one in self.sets for count in one.counts)])
        counts = iter(np.diff(np.searchsorted(numbers, stops)).tolist())
        return [[next(counts) for _ in one.counts] for one in self.sets]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_labels": None, "_numbers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._subset is not None or self._balance is not None:
            self._read()


def _check_alike(sets: Sequence[ShardSet]) -> None:
    first = sets[0]
    for other in sets[1:]:
        if len({(one.task, one.classes, one.manifest.column_names) for one in (first, other)}) > 1:
            raise ConfigError(
                f"{first.folder} and {other.folder} cannot be mixed: their tasks, class names or columns differ "
                f"({first.task}, {len(first.classes)} classes; {other.task}, {len(other.classes)} classes)"
            )


class _Selected:
    """Order of a subset of the samples, which returns sample numbers of the complete sets."""

    def __init__(self, numbers: npt.NDArray[np.integer], order: Order | MixedOrder):
        self._numbers, self._order = numbers, order
        self.samples = order.samples

    def at(self, positions: Numbers) -> Numbers:
        """Return the sample numbers at these positions of the epoch."""
        return self._numbers[self._order.at(positions)].astype(np.int64)
