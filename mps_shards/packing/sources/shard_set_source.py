"""Shard sets as a source of packing. Sets can be merged and filtered by class or key; their samples are copied."""

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source import Source, SourceSample, Stamp
from mps_shards.shards.key_names import encode_key
from mps_shards.shards.manifest import ShardRecord
from mps_shards.shards.raw_sample import IMAGE_FIELDS, MASK_FIELD
from mps_shards.shards.sample_labels import LABEL_TYPE, Labels
from mps_shards.shards.tar import BLOCK, members, sample_from
from mps_shards.shardset.contents import labels_in, listed
from mps_shards.shardset.opening import StoredSet, open_set
from mps_shards.shardset.repeated_keys import key_at, repeated_keys
from mps_shards.shardset.scan import hash_of
from mps_shards.storage.folder import Folder

__all__ = ["SetSelection", "ShardSetSource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSelection:
    """The choice of samples of shard sets to pack.

    Attributes:
        only: names of the classes to keep; empty keeps all.
        without: names of the classes to leave out.
        drop: keys of the samples to leave out.
        prefix: begin every key with the folder name of its set, so that equal keys of several sets stay distinct.
    """

    only: Sequence[str] = ()
    without: Sequence[str] = ()
    drop: frozenset[str] = field(default=frozenset(), repr=False)
    prefix: bool = False

    def __post_init__(self) -> None:
        if self.only and self.without:
            raise ConfigError("name classes to keep (only) or to leave out (except), not both")


class ShardSetSource(Source):
    """A source of the samples of one or more shard sets, set after set, in their order.

    Labels follow their class names into one list: the classes of the first set, then new ones of the others. Sets are
    opened again in each process.
    """

    is_comparable = False  # each sample is read completely

    def __init__(self, folders: Sequence[Folder], selection: SetSelection | None = None):
        if not folders:
            raise ConfigError("no shard set was named; name at least one")
        self._folders = tuple(folders)
        self._selection = selection or SetSelection()
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._opened: _OpenSets | None = None

    @property
    def name(self) -> str:
        return ", ".join(map(str, self._folders))

    def close(self) -> None:
        for folder in self._folders:
            folder.close()
        self._reset()

    def listing(self, options: SourceOptions) -> Listing:
        """List every sample. Only the indexes are read, and the labels in the shards of a set without ``labels.npy``.

        Raises:
            ConfigError: the sets cannot be merged, or no set has a given class or key.
            DataError: two sets hold the same key.
        """
        sets = self._sets()
        _check_compatible(sets.stored)
        first = sets.stored[0].manifest
        classes = self._kept_classes(sets.stored)
        if len(sets.stored) > 1 and not self._selection.prefix:
            sets.check_keys()
        dropped = sets.numbers_of(self._selection.drop)
        left_out: Counter[str] = Counter()
        entries = Entries()
        for which, shard, start in sets.shards:
            stored = sets.stored[which]
            labels = _renumbered(_labels_of(stored, shard), stored, shard, classes)
            sizes = stored.rows[shard.name]["size"].tolist()
            for number, (size, label) in enumerate(zip(sizes, labels.tolist(), strict=True), start):
                if number in dropped:
                    left_out["with dropped keys"] += 1
                elif label == _UNWANTED:
                    left_out["of other classes"] += 1
                else:
                    # the plan adds headers and the label to this size, which gives the size of the stored sample
                    fits = size - BLOCK - (2 * BLOCK if label >= 0 else 0)
                    entries.append(Entry("", fits, label, place=number))
        if not len(entries):
            raise DataError(f"no sample of {self.name} is left to pack")
        recorded: dict[str, str | int | bool | None] = {"keys": str(first.packed.options.get("keys", "stem"))}
        if any(stored.manifest.packed.options.get("repeated_keys") for stored in sets.stored):
            recorded["repeated_keys"] = True
        return Listing(
            layout="shard sets",
            classes=classes,
            splits=(Split(name="", task=first.task, entries=entries),),
            ignore_index=first.ignore_index,
            ignored=left_out,
            numbers=first.column_names,
            identity=" ".join([*(each.manifest.fingerprint for each in sets.stored), *sets.prefixes(self._selection)]),
            recorded=recorded,
        )

    def read(self, entry: Entry) -> SourceSample:
        """Return the fields of a sample, after checking the CRC-32 that the index states.

        Raises:
            ShardError: the sample is damaged.
        """
        sets = self._sets()
        which, shard, start = sets.shard_of(entry.place)
        stored = sets.stored[which]
        content = stored.content(shard.name, entry.place - start)
        sample = sample_from(content, shard=shard.name)
        named = {}
        for name, begin, end in members(content, where=f"shard {shard.name}"):
            named[name[len(sample.key) + 1 :]] = content[begin:end]
        images = [name for name in named if name.lower() in IMAGE_FIELDS]
        if len(images) != 1:
            sample.image()  # raises an error that names the damage
        image = named.pop(images[0])
        return SourceSample(
            extension=images[0],
            image=image,
            mask=next((data for name, data in named.items() if name.lower() == MASK_FIELD), b""),
            others={name: data for name, data in named.items() if name.lower() != "cls" or entry.label < 0},
            key=sets.prefixes(self._selection)[which] + sample.key,
            is_packed=True,
        )

    def stamp(self, entry: Entry) -> Stamp:
        sets = self._sets()
        which, shard, start = sets.shard_of(entry.place)
        row = sets.stored[which].rows[shard.name][entry.place - start]
        return Stamp(int(row["crc32"]).to_bytes(8), is_sure=True)

    def _sets(self) -> "_OpenSets":
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = _OpenSets([open_set(folder, whole=True) for folder in self._folders])
        return self._opened

    def _kept_classes(self, sets: Sequence[StoredSet]) -> tuple[str, ...]:
        only, without = self._selection.only, self._selection.without
        everything = tuple(dict.fromkeys(name for stored in sets for name in stored.manifest.classes))
        if (only or without) and sets[0].manifest.task != "classification":
            raise ConfigError(
                f"{sets[0].folder} is for {sets[0].manifest.task}; only sets for classification are filtered by class"
            )
        unknown = [name for name in (*only, *without) if name not in everything]
        if unknown:
            shown = ", ".join(everything[:20]) + (" …" if len(everything) > 20 else "")
            raise ConfigError(f"{unknown[0]!r} is not a class of these sets; they have {shown or 'none with names'}")
        kept = tuple(name for name in everything if (not only or name in only) and name not in without)
        if everything and not kept:
            raise ConfigError("every class is left out; leave at least one class in")
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {"folders": self._folders, "selection": self._selection}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folders, self._selection = state["folders"], state["selection"]
        self._reset()


_UNWANTED = -2  # replaces a label whose class is left out


class _OpenSets:
    """The sets as one sequence of shards and samples."""

    def __init__(self, stored: Sequence[StoredSet]):
        self.stored = stored
        shards = [(which, shard) for which, each in enumerate(stored) for shard in each.manifest.shards]
        self._starts = list(accumulate((shard.samples for _, shard in shards), initial=0))
        self.shards = [(which, shard, start) for (which, shard), start in zip(shards, self._starts, strict=False)]

    def shard_of(self, number: int) -> tuple[int, ShardRecord, int]:
        """Return the number of a sample's set, its shard, and the number of the first sample of the shard."""
        return self.shards[bisect_right(self._starts, number) - 1]

    def prefixes(self, selection: SetSelection) -> list[str]:
        """Return the prefix of the keys of each set."""
        if not selection.prefix:
            return [""] * len(self.stored)
        prefixes = [f"{encode_key(stored.folder.name)}/" for stored in self.stored]
        if len(set(prefixes)) < len(prefixes):
            raise ConfigError("two of the sets have the same folder name, which gives them the same prefix; rename one")
        return prefixes

    def check_keys(self) -> None:
        """Raise `DataError` if two shards hold the same key."""

        def key_of(part: int, number: int) -> str:
            which, shard, _ = self.shards[part]
            offset, size, _ = self.stored[which].rows[shard.name][number].item()
            return key_at(self.stored[which].folder / shard.name, offset, size)

        hashes = [
            np.array([hash_of(key_of(part, number)) for number in range(shard.samples)], dtype=np.uint64)
            for part, (_, shard, _) in enumerate(self.shards)
        ]
        for repetition in repeated_keys(hashes, key_of):
            paths = [self.stored[self.shards[part][0]].folder for part in (repetition.first, repetition.shard)]
            raise DataError(
                f"{paths[0]} and {paths[1]} both hold the key {repetition.key!r}; make the keys distinct with --prefix"
            )

    def numbers_of(self, keys: frozenset[str]) -> frozenset[int]:
        """Return the numbers of the samples with these keys.

        Raises:
            ConfigError: no set holds one of them.
        """
        if not keys:
            return frozenset()
        found: dict[int, str] = {}
        for number, key in enumerate(self._keys()):
            if key in keys:
                found[number] = key
        if missing := sorted(keys - set(found.values())):
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            raise ConfigError(f"no sample has the key {missing[0]!r}{more}, so it cannot be dropped; see mps-shards ls")
        return frozenset(found)

    def _keys(self) -> Iterator[str]:
        for which, shard, _ in self.shards:
            yield from (sample.key for sample in listed(self.stored[which], shard.name))


def _labels_of(stored: StoredSet, shard: ShardRecord) -> Labels:
    if stored.manifest.task != "classification":
        return np.full(shard.samples, -1, LABEL_TYPE)
    if shard.name in stored.labels:
        return stored.labels[shard.name]
    return labels_in(stored.folder / shard.name, stored.rows[shard.name], stored.choice)


def _renumbered(labels: Labels, stored: StoredSet, shard: ShardRecord, classes: Sequence[str]) -> Labels:
    """Return labels as indices of the new list of classes; `_UNWANTED` where a class is not in that list."""
    if not stored.manifest.classes:
        return labels
    if len(labels) and int(labels.max()) >= len(stored.manifest.classes):
        wrong = int(labels.argmax())
        raise DataError(
            f"label {labels[wrong]} of sample number {wrong} of {stored.folder / shard.name} is not a class: the set "
            f"has {len(stored.manifest.classes)} classes"
        )
    places = {name: number for number, name in enumerate(classes)}
    table = np.array([*(places.get(name, _UNWANTED) for name in stored.manifest.classes), -1], LABEL_TYPE)
    return table[labels]  # -1 (no label) indexes the last entry


def _check_compatible(sets: Sequence[StoredSet]) -> None:
    for stored in sets:
        if chosen := [f"{name} {value}" for name, value in stored.choice.options().items() if value]:
            raise ConfigError(
                f"{stored.folder} is read with chosen fields ({', '.join(chosen)}), which a new set would not have; "
                "unpack the set, and pack the files"
            )
    first = sets[0]
    for other in sets[1:]:
        for what in ("task", "ignore_index", "columns"):
            mine, theirs = getattr(first.manifest, what), getattr(other.manifest, what)
            if mine != theirs:
                raise ConfigError(f"{first.folder} and {other.folder} differ in {what}: {mine} and {theirs}")
        if first.manifest.packed.options.get("keys", "stem") != other.manifest.packed.options.get("keys", "stem"):
            raise ConfigError(
                f"{first.folder} and {other.folder} were packed with different --keys, so their keys cannot be compared"
            )
        if bool(first.manifest.classes) != bool(other.manifest.classes):
            raise ConfigError(
                f"only one of {first.folder} and {other.folder} names its classes, so their labels cannot be matched"
            )
        if first.manifest.task in ("segmentation", "multilabel") and first.manifest.classes != other.manifest.classes:
            raise ConfigError(
                f"{first.folder} and {other.folder} have different classes, and only labels of classification are "
                "renumbered"
            )
