"""Listing of samples from Python objects, which collects their targets and the classes of the targets."""

from collections.abc import Iterator

import msgspec
import numpy as np

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.class_folders import number_labels
from mps_shards.packing.sources.listing import Doubt, Entries, Entry, Listing, Split
from mps_shards.packing.sources.python_items import Target
from mps_shards.shards.manifest import Task
from mps_shards.wording import counted

__all__ = ["FoundSamples"]


class FoundSamples:
    """Collects the targets of samples, and the classes that they name."""

    def __init__(self, classes: tuple[str, ...]):
        self._classes = classes
        self._splits: dict[str, Entries] = {}
        self._kinds: dict[str, Task] = {}
        self._places: dict[str, int] = {name: number for number, name in enumerate(classes)}
        self._most = -1
        self._has_names = bool(classes)
        self.numbers: dict[str, int] = {}

    def add(self, split: str, path: str, size: int, place: int, target: Target) -> None:
        """Add the target of a sample, with the path, size and place of its image.

        Raises:
            DataError: the target does not fit the samples before it, or its label is not a class.
        """
        kind, before = _task(target), self._kinds.get(split)
        if before in ("classification", "unlabeled") and kind in ("classification", "unlabeled"):
            kind = "classification" if before != kind else kind  # some samples of a set may have no label
        elif before not in (None, kind):
            raise DataError(f"{path} has a target for {kind}, but the samples before it have targets for {before}")
        self._kinds[split] = kind
        label = -1 if target.label is None else self._number(target.label, path)
        note = dict(target.others)
        if target.labels is not None:
            note["labels"] = sorted({self._number(each, path) for each in target.labels})
        if target.number is not None:
            note["target"] = target.number
        try:
            text = msgspec.json.encode(note).decode() if note else ""
        except (TypeError, msgspec.MsgspecError) as error:
            raise DataError(f"{path}: the metadata cannot be written as JSON: {error}") from error
        mask = f"+{len(target.mask)}" if target.mask else ""
        caption = target.caption.replace("\0", " ") if kind == "captions" else ""
        entry = Entry(path, size, label, mask=mask, note=text, caption=caption, place=place)
        self._splits.setdefault(split, Entries()).append(entry)

    def listing(self, *, identity: str = "") -> Listing:
        """Return the listing of all added samples.

        Raises:
            ConfigError: no samples were added.
        """
        if not self._splits:
            raise ConfigError("there are no samples to pack")
        classes = self._ordered()
        return Listing(
            layout="Python samples",
            classes=classes,
            splits=tuple(
                Split(name=name, task=self._kinds[name], entries=entries)
                for name, entries in sorted(self._splits.items())
            ),
            identity=identity,
            doubts=tuple(self._doubts()),
            numbers=("target",) if "regression" in self._kinds.values() else (),
        )

    def _doubts(self) -> Iterator[Doubt]:
        for name, entries in sorted(self._splits.items()):
            lacking = np.flatnonzero(entries.labels < 0)
            if self._kinds[name] == "classification" and len(lacking):
                samples = counted(len(entries), "sample") + (f" of split {name!r}" if name else "")
                yield Doubt(
                    f"{len(lacking):,} of {samples} have no label (None), such as {entries[int(lacking[0])].path}",
                    "give them a label, or leave them out: training finds samples without a class",
                    "content",
                )

    def _number(self, label: int | str, path: str) -> int:
        if isinstance(label, str):
            if self._classes and label not in self._places:
                raise DataError(f"{path} has the label {label!r}, which is not one of the {len(self._classes)} classes")
            number = self._places.setdefault(label, len(self._places))
            self._has_names = True
        else:
            if label < 0:
                raise DataError(f"{path} has the label {label}; class numbers begin at 0, and None is no label")
            if self._classes and label >= len(self._classes):
                raise DataError(f"{path} has the label {label}, which is not one of the {len(self._classes)} classes")
            number, self._most = label, max(self._most, label)
        self.numbers[str(label)] = number
        return number

    def _ordered(self) -> tuple[str, ...]:
        """Return the classes that the data set states, else the sorted names, or the numbers up to the largest."""
        if self._classes:
            return self._classes
        if not self._has_names:
            return tuple(map(str, range(self._most + 1)))
        if self._most >= 0:
            raise DataError("some labels are names and some are numbers; give only names or only numbers")
        if "multilabel" in self._kinds.values():
            return tuple(self._places)
        names = sorted(self._places)
        order = {name: number for number, name in enumerate(names)}
        number_labels(self._splits.values(), self._places, order)
        self.numbers = {name: order[name] for name in names}
        return tuple(names)


def _task(target: Target) -> Task:
    if target.mask:
        return "segmentation"
    if target.labels is not None:
        return "multilabel"
    if target.number is not None:
        return "regression"
    if target.label is not None:
        return "classification"
    return "captions" if target.caption else "unlabeled"
