"""Choice of a part of a shard set without repacking, as a pure function of the set's labels, its keys and options."""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.sampling.apportionment import apportioned
from mps_shards.sampling.random_ranks import Mask, RandomRanks
from mps_shards.shards.keyed import Stream, check_seed

__all__ = ["Subset"]

Labels = npt.NDArray[np.int32]
Selected = npt.NDArray[np.integer]

_FOLD, _FRACTION, _PER_CLASS = range(3)  # numbers that give each option a random order of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Options that choose a part of the samples of a shard set.

        ShardDataset(shards, batch_size=64, subset=Subset(fraction=0.1))
        train, held_out = ~Subset(fold=(0, 5)), Subset(fold=(0, 5))

    Samples keep the order of the set. The choice depends only on the set and these options, so it is the same on all
    ranks and machines. The options are applied in the order of this list. In sets for classification, `fold` and
    `fraction` are stratified: they take the same share of every class, to within one sample.

    Attributes:
        classes: keep only samples of these classes, given by name or class index. Class indices do not change.
        keys: keep only samples with these keys: a list, or the path of a text file with one key on each line.
        fold: (number, count): divide the samples into `count` folds of equal size, and keep only the fold with this
            number, from 0. Each sample is in exactly one fold.
        fraction: keep this share of the samples, from 0 to 1.
        per_class: keep at most this many samples of each class.
        complement: keep the samples that `fold`, `fraction` and `per_class` leave out instead; without these options,
            the samples that `classes` and `keys` leave out. ``~subset`` inverts this option.
        seed: seed of the random choice. It is independent of the seed of the data set.

    Raises:
        ConfigError: an option has an invalid value, or no option is given.
    """

    classes: Sequence[str | int] | None = None
    keys: str | os.PathLike[str] | Sequence[str] | None = None
    fold: tuple[int, int] | None = None
    fraction: float | None = None
    per_class: int | None = None
    complement: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        classes: object = self.classes
        if classes is not None and (isinstance(classes, str) or not isinstance(classes, Collection)):
            raise ConfigError(f"classes must be a list of names or class indices, not {self.classes!r}")
        keys: object = self.keys
        if keys is not None and not isinstance(keys, str | os.PathLike | Collection):
            raise ConfigError(f"keys must be a list of keys, or the path of a text file, not {keys!r}")
        if self.fold is not None:
            given: object = self.fold
            fold = tuple(given) if isinstance(given, Collection) else ()
            if len(fold) != 2 or any(type(each) is not int for each in fold) or not 0 <= fold[0] < fold[1]:
                raise ConfigError(f"fold must be (number, count) with 0 <= number < count, not {self.fold!r}")
        share: object = self.fraction
        if share is not None and not (isinstance(share, int | float | np.number) and 0 <= float(share) <= 1):
            raise ConfigError(f"fraction must be from 0 to 1, not {self.fraction!r}")
        if self.per_class is not None and (type(self.per_class) is not int or self.per_class < 1):
            raise ConfigError(f"per_class must be at least 1, not {self.per_class!r}")
        if self.classes is None and self.keys is None and not self._draws:
            raise ConfigError("a Subset needs at least one of classes, keys, fold, fraction and per_class")

    def __invert__(self) -> "Subset":
        return replace(self, complement=not self.complement)

    @property
    def _draws(self) -> bool:
        return self.fold is not None or self.fraction is not None or self.per_class is not None

    @property
    def needs_labels(self) -> bool:
        """Whether the choice depends on the class of each sample."""
        return self.classes is not None or self.per_class is not None

    def key_list(self) -> list[str] | None:
        """Return the keys of the option `keys`, in their order; None if the option is not given."""
        if self.keys is None or not isinstance(self.keys, str | os.PathLike):
            return None if self.keys is None else list(self.keys)
        try:
            with open(self.keys, encoding="utf-8") as file:
                return [line.rstrip("\r\n") for line in file if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"keys={os.fspath(self.keys)!r} is not a text file that can be read: {error}") from error

    def described(self) -> str:
        """Return a short text that identifies the options, for fingerprints; it is equal for equal options."""
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("classes", "fold", "fraction", "per_class")
            if getattr(self, name) is not None
        }
        if (keys := self.key_list()) is not None:
            values["keys"] = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]
        if self.complement:
            values["complement"] = True
        text = ", ".join(f"{name}={value!r}" for name, value in values.items()) + f", seed={self.seed}"
        return text if len(text) <= 100 else hashlib.sha256(text.encode()).hexdigest()

    def numbers(self, samples: int, labels: Labels | None, *, names: Sequence[str], keyed: Selected | None) -> Selected:
        """Return the numbers of the chosen samples, ascending.

        Args:
            samples: number of samples of the set.
            labels: class index of each sample, -1 for none; None if the set has no classes.
            names: names of the classes.
            keyed: numbers of the samples with the keys of the option `keys`; None if the option is not given.

        Raises:
            ConfigError: a class does not exist, or no sample is left.
        """
        eligible = self._eligible(samples, labels, names, keyed)
        kept = None if eligible is None and not self._draws else self._drawn(samples, labels, eligible)
        numbers = _whole(samples) if eligible is None else eligible
        if self.complement and not self._draws:
            left_out = np.ones(samples, dtype=np.bool_)
            left_out[numbers] = False
            numbers = _flat(left_out)
        elif kept is not None:
            numbers = numbers[~kept if self.complement else kept]
        if not len(numbers):
            raise ConfigError(f"Subset({self.described()}) leaves none of the {samples} samples")
        return numbers

    def _eligible(
        self, samples: int, labels: Labels | None, names: Sequence[str], keyed: Selected | None
    ) -> Selected | None:
        """Return the numbers of the samples that `classes` and `keys` choose; None for all samples."""
        if self.classes is None:
            return keyed
        assert labels is not None
        # an entry for each class, and a last one that the label -1 selects
        wanted = np.zeros(max(len(names), int(labels.max(initial=-1)) + 1) + 1, dtype=np.bool_)
        wanted[[_class_index(name, names) for name in self.classes]] = True
        if keyed is not None:
            return keyed[wanted[labels[keyed]]]
        return _flat(wanted[labels])

    def _drawn(self, samples: int, labels: Labels | None, eligible: Selected | None) -> Mask:
        """Return a mask of the eligible samples that the options `fold`, `fraction` and `per_class` keep."""
        groups, sizes = _groups(labels, eligible, samples)
        kept = np.ones(int(sizes.sum()), dtype=np.bool_)
        if self.fold is not None:
            number, count = self.fold
            # the larger parts go to another fold in each class, so that all folds have equal sizes
            turned = (number + (np.cumsum(sizes) - sizes)) % count
            kept = self._ranks(groups, sizes, _FOLD).between(turned * sizes // count, (turned + 1) * sizes // count)
        if self.fraction is not None:
            kept = self._among(kept, groups, sizes, _FRACTION, self._fractions)
        if self.per_class is not None:
            most = self.per_class
            kept = self._among(kept, groups, sizes, _PER_CLASS, lambda left: np.minimum(left, most))
        return kept

    def _among(self, kept: Mask, groups: Any, sizes: npt.NDArray[np.int64], use: int, limits: Any) -> Mask:
        """Return a mask of the kept samples whose random rank is below the limit of their group."""
        left = groups[kept] if groups is not None else None
        counts = np.bincount(left, minlength=len(sizes)) if left is not None else np.array([kept.sum()])
        found = kept.copy()
        found[kept] = self._ranks(left, counts.astype(np.int64), use).below(limits(counts))
        return found

    def _fractions(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many samples of each class make up the fraction, exact in total."""
        fraction = self.fraction or 0.0
        chosen = apportioned(counts * fraction, round(int(counts.sum()) * fraction))
        limited: npt.NDArray[np.int64] = np.minimum(chosen, counts)
        return limited

    def _ranks(self, groups: Any, sizes: npt.NDArray[np.int64], use: int) -> RandomRanks:
        return RandomRanks(groups, sizes, stream=Stream.SUBSET, seed=self.seed, use=use)


def _groups(
    labels: Labels | None, eligible: Selected | None, samples: int
) -> tuple[npt.NDArray[np.integer] | None, npt.NDArray[np.int64]]:
    """Return the class of each eligible sample, and the sizes of the classes; samples without a class form one more."""
    if labels is None:
        return None, np.array([samples if eligible is None else len(eligible)], dtype=np.int64)
    groups = labels if eligible is None else labels[eligible]
    if groups.min(initial=0) < 0:
        groups = np.where(groups < 0, groups.max() + 1, groups)
    return groups, np.bincount(groups, minlength=1).astype(np.int64)


def _class_index(named: str | int, names: Sequence[str]) -> int:
    if isinstance(named, str) and named in names:
        return list(names).index(named)
    if type(named) is int and 0 <= named < len(names):
        return named
    some = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
    raise ConfigError(f"the set has no class {named!r}; its {len(names)} classes are {some or 'not named'}")


def _whole(samples: int) -> Selected:
    return np.arange(samples, dtype=np.uint32 if samples < 1 << 32 else np.int64)


def _flat(mask: Mask) -> Selected:
    return np.flatnonzero(mask).astype(np.uint32 if len(mask) < 1 << 32 else np.int64)
