"""Class balance, which decides how often each sample is used in an epoch: by equal classes, or by weights.

Within a class, the numbers of uses differ by at most one, and over the epochs each sample gets the additional use
equally often. Only the order is random. The result is a pure function of (labels, options, seed, epoch).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.sampling.apportionment import apportioned
from mps_shards.sampling.random_ranks import RandomRanks
from mps_shards.shards.keyed import Stream, bits

__all__ = ["Balance", "Draws"]

Weights = Sequence[float] | npt.NDArray[np.floating]

_CHUNK = 1 << 22  # number of samples whose weights are added up at a time
_GOLDEN = 0.6180339887498949  # golden ratio; its multiples, modulo 1, are spread evenly over 0..1


class Draws(NamedTuple):
    """The samples of one epoch before they are shuffled.

    Attributes:
        numbers: sample numbers in rounds: first all samples that are used, then all samples that are used a second
            time, and so on. Each round is in the order of the set, so that the uses of a sample are far apart.
        counts: number of samples of each round.
    """

    numbers: npt.NDArray[np.integer]
    counts: list[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Balance:
    """Options for how often each sample is used in an epoch.

        ShardDataset(shards, batch_size=64, shuffle=True, balance="classes")
        balance = Balance(classes={"cat": 1, "dog": 3})
        ShardDataset(shards, batch_size=64, shuffle=True, balance=balance)

    An epoch has as many samples as the set or subset, unless `length` is given.

    Attributes:
        classes: "equal", or a weight for each class, by name or in the order of the class indices. A weight of 0 leaves
            a class out. Samples without a class are left out.
        samples: a weight for each sample, in the order of the set, instead of weights for classes.
        replacement: whether a sample may be used more than once in an epoch. If not, the class with the fewest samples
            for its weight limits the length of the epoch.
        length: number of samples of an epoch.

    Raises:
        ConfigError: an option has an invalid value.
    """

    classes: Literal["equal"] | Mapping[str, float] | Weights = "equal"
    samples: Weights | None = None
    replacement: bool = True
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None and (type(self.length) is not int or self.length < 1):
            raise ConfigError(f"length must be at least 1, not {self.length!r}")
        if isinstance(self.classes, str) and self.classes != "equal":
            raise ConfigError(f"classes must be 'equal' or a weight for each class, not {self.classes!r}")
        given = self.samples if self.samples is not None else self.classes
        if not isinstance(given, str):
            _checked(list(given.values()) if isinstance(given, Mapping) else given)

    @classmethod
    def of(cls, chosen: Any) -> "Balance | None":
        """Return the `Balance` for the argument ``balance=`` of a data set.

        Raises:
            ConfigError: the value is neither None, "classes", weights nor a Balance.
        """
        if chosen is None or isinstance(chosen, Balance):
            return chosen
        if isinstance(chosen, str) and chosen == "classes":
            return cls()
        if isinstance(chosen, Mapping):
            return cls(classes=chosen)
        raise ConfigError(
            'balance must be "classes", a weight for each class as {name: weight}, or Balance(…), such as '
            f"Balance(samples=weights) for a weight of each sample, not {chosen!r}"
        )

    def described(self) -> str:
        """Return a short text that identifies the options, for fingerprints; it is equal for equal options."""
        values: list[str] = [] if self.replacement else ["replacement=False"]
        if self.length is not None:
            values.append(f"length={self.length}")
        if self.samples is not None:
            digest = hashlib.sha256(np.asarray(self.samples, dtype=np.float64).tobytes()).hexdigest()
            return ", ".join([f"samples={digest[:32]}", *values])
        weights: object = self.classes
        if not isinstance(self.classes, str):
            weights = list(self.classes.items() if isinstance(self.classes, Mapping) else map(float, self.classes))
        text = ", ".join([f"classes={weights}", *values])
        return text if len(text) <= 100 else hashlib.sha256(text.encode()).hexdigest()

    def class_weights(self, sizes: npt.NDArray[np.int64], names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return float64 [classes], the weight of each class.

        Args:
            sizes: number of samples of each class.
            names: class names; empty if the classes have no names.

        Raises:
            ConfigError: a class has no weight, or a class without samples has a positive weight.
        """
        if isinstance(self.classes, str):
            return (sizes > 0).astype(np.float64)
        if isinstance(self.classes, Mapping):
            differ = sorted({str(name) for name in self.classes} ^ set(names))
            if differ:
                missing = differ[0] in names
                raise ConfigError(
                    f"balance needs a weight for each class and for nothing else, but {differ[0]!r} "
                    f"{'has no weight' if missing else 'is not a class of the set'}"
                )
            given = [self.classes[name] for name in names]
        else:
            given = list(self.classes)
        if len(given) != len(sizes):
            raise ConfigError(f"balance has {len(given)} weights, but the set has {len(sizes)} classes")
        weights = np.asarray(given, dtype=np.float64)
        empty = np.flatnonzero((weights > 0) & (sizes == 0))
        if len(empty):
            name = names[empty[0]] if len(names) else empty[0]
            raise ConfigError(f"class {name!r} has no samples, so it cannot be balanced: set its weight to 0")
        return weights

    def epoch_length(self, labels: npt.NDArray[np.int32] | None, samples: int, names: Sequence[str]) -> int:
        """Return the number of samples of an epoch.

        Args:
            labels: class index of each sample, -1 for none; only needed if classes have weights.
            samples: number of samples of the set or subset.
            names: class names.

        Raises:
            ConfigError: the weights do not fit the set, or `length` is not possible without replacement.
        """
        if self.samples is not None:
            weights = np.asarray(self.samples)
            if len(weights) != samples:
                raise ConfigError(f"balance has {len(weights)} weights of samples, but there are {samples} samples")
            most = int(weights.sum(dtype=np.float64) / float(weights.max()) + 1e-9)
        else:
            assert labels is not None
            sizes = _sizes(labels, names)
            share = self.class_weights(sizes, names)
            share = share / share.sum()
            used = share > 0
            most = int((sizes[used] / share[used]).min() + 1e-9)
        if self.replacement:
            return self.length or samples
        if self.length is not None and self.length > most:
            raise ConfigError(
                f"length={self.length} needs replacement=True: without it, an epoch has at most {most} samples"
            )
        return self.length or most

    def draws(
        self, labels: npt.NDArray[np.int32] | None, samples: int, *, names: Sequence[str], seed: int, epoch: int
    ) -> Draws:
        """Return the samples of an epoch; see `epoch_length` for the first three arguments."""
        length = self.epoch_length(labels, samples, names)
        if self.samples is not None:
            uses = _uses_by_sample(np.asarray(self.samples), length, seed=seed, epoch=epoch)
        else:
            assert labels is not None
            sizes = _sizes(labels, names)
            weights = self.class_weights(sizes, names)
            totals = apportioned(weights / weights.sum() * length, length)
            uses = _uses_by_class(labels, sizes, totals, seed=seed, epoch=epoch)
        return _in_rounds(uses)


def _checked(weights: Weights) -> None:
    found = np.asarray(weights, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise ConfigError("weights must be numbers from 0 up, and not all 0")


def _sizes(labels: npt.NDArray[np.int32], names: Sequence[str]) -> npt.NDArray[np.int64]:
    counts = np.bincount(labels[labels >= 0] if labels.min(initial=0) < 0 else labels, minlength=len(names))
    if not counts.any():
        raise ConfigError("balance needs samples that have a class")
    return counts.astype(np.int64)


def _uses_by_class(
    labels: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int64],
    totals: npt.NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
) -> npt.NDArray[np.integer]:
    """Return how often each sample is used, given the sizes of the classes and the total uses of each class."""
    holds = np.maximum(sizes, 1)
    each, extra = totals // holds, totals % holds
    # in a random order of the class, the samples with an additional use follow those of the previous epoch
    low = (np.uint64(epoch) % holds.astype(np.uint64)).astype(np.int64) * extra % holds
    groups: npt.NDArray[np.integer] = labels
    if len(labels) > int(sizes.sum()):  # samples without a class form one more class, which is not used
        groups = np.where(labels < 0, len(sizes), labels)
        sizes = np.append(sizes, len(labels) - int(sizes.sum()))
        each, extra, low = (np.append(values, 0) for values in (each, extra, low))
    ranks = RandomRanks(groups, sizes, stream=Stream.BALANCE, seed=seed)
    uses: npt.NDArray[np.integer] = each.astype(_small(int(each.max(initial=0)) + 1))[groups]
    if extra.any():
        uses += ranks.between(low, low + extra)
    return uses


def _uses_by_sample(
    weights: npt.NDArray[np.floating], length: int, *, seed: int, epoch: int
) -> npt.NDArray[np.integer]:
    """Return how often each sample is used: its expected number of uses, rounded down or up by systematic sampling."""
    first = float(bits(Stream.BALANCE, 1, seed=seed)[0]) / 2.0**64
    offset = (first + (epoch % (1 << 32)) * _GOLDEN) % 1.0
    scale = length / float(weights.sum(dtype=np.float64))
    uses = np.empty(len(weights), dtype=_small(int(float(weights.max()) * scale) + 2))
    before, taken = offset, 0
    for start in range(0, len(weights), _CHUNK):
        part = np.cumsum(weights[start : start + _CHUNK] * scale, dtype=np.float64) + before
        if start + len(part) == len(weights):
            part[-1] = length + offset  # removes the rounding error of the sum
        reached = np.floor(part).astype(np.int64)
        uses[start : start + len(part)] = np.diff(reached, prepend=taken)
        before, taken = float(part[-1]), int(reached[-1])
    return uses


def _in_rounds(uses: npt.NDArray[np.integer]) -> Draws:
    kind = np.uint32 if len(uses) < 1 << 32 else np.int64
    rounds = [np.flatnonzero(uses).astype(kind)]
    while len(rounds[-1]):
        rounds.append(rounds[-1][uses[rounds[-1]] > len(rounds)])
    return Draws(np.concatenate(rounds), [len(numbers) for numbers in rounds[:-1]])


def _small(most: int) -> Any:
    return np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.int64
