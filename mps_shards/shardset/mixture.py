"""Several shard sets as one sequence of samples, with one list of classes."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from mps_shards.errors import ConfigError, DataError
from mps_shards.shards.key_names import encode_key
from mps_shards.shards.tar import header, members, padding, sample_from
from mps_shards.shardset.opening import StoredSet
from mps_shards.shardset.repeated_keys import key_at, twins
from mps_shards.shardset.scan import hash_of
from mps_shards.storage.open_files import AnyReader

__all__ = ["Mixture"]


class Mixture:
    """The samples of all sets, one after the other, by number.

    Args:
        only, without: class names to keep, or to leave out; all are kept by default.
        prefix: begin every key with its set's folder name.

    Attributes:
        classes: names of the classes that are kept: those of the first set, then new ones of the others.
        repeated_keys: whether keys of a set repeat, as those of foreign tars may.

    Raises:
        ConfigError: the sets do not fit together, or a class is in none of them.
        DataError: a key comes in two shards.
    """

    def __init__(
        self, sets: Sequence[StoredSet], *, only: Sequence[str] = (), without: Sequence[str] = (), prefix: bool = False
    ):
        _check_alike(sets)
        self.first = sets[0].manifest
        self.classes = _kept_classes(sets, only, without)
        self.repeated_keys = any(stored.manifest.packed.options.get("repeated_keys") for stored in sets)
        place = {name: number for number, name in enumerate(self.classes)}
        self._labels = [[place.get(name, -1) for name in stored.manifest.classes] for stored in sets]
        self._prefixes = [f"{encode_key(stored.here.resolve().name)}/" if prefix else "" for stored in sets]
        self._shards = [(which, shard) for which, stored in enumerate(sets) for shard in stored.manifest.shards]
        self._starts = list(accumulate((shard.samples for _, shard in self._shards), initial=0))
        self._sets = sets
        self._reader = AnyReader()
        if prefix and len(set(self._prefixes)) < len(sets):
            raise ConfigError("two of the sets have the same folder name, so it tells no keys apart; rename one")
        if len(sets) > 1 and not prefix:
            self._check_keys()

    def __len__(self) -> int:
        return self._starts[-1]

    def close(self) -> None:
        """Close open files."""
        self._reader.close()

    def sample(self, number: int) -> bytes | None:
        """Tar blocks of a sample with its new key and label; None if its class is not wanted.

        Raises:
            ShardError: its bytes are damaged.
            DataError: its label is no class.
        """
        part = bisect_right(self._starts, number) - 1
        which, shard = self._shards[part]
        stored = self._sets[which]
        content = stored.content(shard.name, number - self._starts[part], self._reader)
        sample = sample_from(content, shard=shard.name)
        label = sample.label()
        labels = self._labels[which]
        if label >= 0 and labels:
            if label >= len(labels):
                raise DataError(
                    f"label {label} of sample {sample.key!r} is no class: {stored.folder} has {len(labels)}"
                )
            label = labels[label]
            if label < 0:
                return None
        pieces: list[bytes] = []
        for name, start, stop in members(content, where=f"shard {shard.name}"):
            field = name[len(sample.key) + 1 :]
            data = str(label).encode() if field.lower() == "cls" else content[start:stop]
            new = f"{self._prefixes[which]}{sample.key}.{field}"
            pieces += [header(new, len(data)), data, padding(len(data))]
        return b"".join(pieces)

    def _check_keys(self) -> None:
        def key_of(part: int, number: int) -> str:
            which, shard = self._shards[part]
            offset, size, _ = self._sets[which].rows[shard.name][number].item()
            return key_at(self._reader, self._sets[which].folder / shard.name, offset, size)

        hashes = [
            np.array([hash_of(key_of(part, number)) for number in range(shard.samples)], dtype=np.uint64)
            for part, (_, shard) in enumerate(self._shards)
        ]
        for twin in twins(hashes, key_of):
            paths = [self._sets[self._shards[part][0]].folder for part in (twin.first, twin.shard)]
            raise DataError(f"{paths[0]} and {paths[1]} both hold the key {twin.key!r}; tell them apart with --prefix")


def _check_alike(sets: Sequence[StoredSet]) -> None:
    if not sets:
        raise ConfigError("no shard set was named")
    for stored in sets:
        if chosen := [f"{name} {value}" for name, value in stored.choice.options().items() if value]:
            raise ConfigError(
                f"{stored.folder} is read by a choice of fields ({', '.join(chosen)}), which a new set would not have; "
                "unpack it, and pack that"
            )
    first = sets[0]
    for other in sets[1:]:
        for what in ("task", "ignore_index"):
            mine, theirs = getattr(first.manifest, what), getattr(other.manifest, what)
            if mine != theirs:
                raise ConfigError(f"{first.folder} and {other.folder} differ in {what}: {mine} and {theirs}")
        if first.manifest.packed.options.get("keys", "stem") != other.manifest.packed.options.get("keys", "stem"):
            raise ConfigError(f"{first.folder} and {other.folder} were packed with different --keys")
        if bool(first.manifest.classes) != bool(other.manifest.classes):
            raise ConfigError(f"of {first.folder} and {other.folder} only one names its classes")
        if first.manifest.task == "segmentation" and first.manifest.classes != other.manifest.classes:
            raise ConfigError(f"{first.folder} and {other.folder} have different classes; label ids are not renumbered")


def _kept_classes(sets: Sequence[StoredSet], only: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    everything = tuple(dict.fromkeys(name for stored in sets for name in stored.manifest.classes))
    if (only or without) and sets[0].manifest.task != "classification":
        raise ConfigError(f"{sets[0].folder} is for {sets[0].manifest.task}; only classification is filtered by class")
    unknown = [name for name in (*only, *without) if name not in everything]
    if unknown:
        shown = ", ".join(everything[:20]) + (" …" if len(everything) > 20 else "")
        raise ConfigError(f"{unknown[0]!r} is no class of these sets; they have {shown or 'none with names'}")
    kept = tuple(name for name in everything if (not only or name in only) and name not in without)
    if everything and not kept:
        raise ConfigError("every class is left out")
    return kept
