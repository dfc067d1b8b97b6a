"""What every layout gives: the images of each split with their targets, in the order of their paths or of a list."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from mps_shards.shards.manifest import Task

__all__ = ["Bad", "Entries", "Entry", "Listing", "Split"]


class Entry(NamedTuple):
    """One image file and what belongs to it. Paths are relative to the packed folder, with forward slashes.

    Attributes:
        path: of the image.
        size: bytes of the image file when it was listed.
        label: class number; -1 means none.
        mask: path of the label map; "" means none.
        shapes: JSON that a label map is drawn from (COCO annotations of this image); "" means none.
        note: JSON object that becomes the sample's ``.json``; "" means none.
    """

    path: str
    size: int
    label: int = -1
    mask: str = ""
    shapes: str = ""
    note: str = ""


class Bad(NamedTuple):
    """A file that was passed over because it cannot be packed: its path as an entry's, and why in a whole line."""

    path: str
    reason: str


class Entries(Sequence[Entry]):
    """Many entries in columns: some 20 bytes an image beside its texts, where five million tuples would take 2 GB."""

    def __init__(self, entries: Iterable[Entry] = ()):
        self._texts, self._ends = bytearray(), array("Q", [0])
        self._sizes, self._labels = array("Q"), array("i")
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Add one; not while an array of `sizes` or `labels` is still held."""
        texts = "\0".join((entry.path, entry.mask, entry.shapes, entry.note))
        self._sizes.append(entry.size)
        self._labels.append(entry.label)
        self._texts += texts.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._texts))

    @property
    def sizes(self) -> npt.NDArray[np.uint64]:
        """uint64 (n,), bytes of the image files."""
        return np.asarray(self._sizes, np.uint64)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 (n,), a view that may be written to: a layout learns the numbers of its classes last."""
        return np.asarray(self._labels, np.int32)

    @property
    def _stops(self) -> npt.NDArray[np.uint64]:
        """uint64 (n + 1,), where the texts of each begin and end."""
        return np.asarray(self._ends, np.uint64)

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, number: int) -> Entry: ...
    @overload
    def __getitem__(self, number: slice) -> "Entries": ...
    def __getitem__(self, number: int | slice) -> "Entry | Entries":
        if isinstance(number, slice):
            return self.take(range(len(self))[number])
        place = range(len(self))[number]
        texts = self._texts[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogateescape")
        path, mask, shapes, note = texts.split("\0")
        return Entry(path, self._sizes[place], self._labels[place], mask, shapes, note)

    def take(self, numbers: Iterable[int]) -> "Entries":
        """The entries of these numbers, in this order."""
        return Entries(self[number] for number in numbers)

    def text_bytes(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Encoded lengths of path, mask, shapes and note of these entries: int64 (stop - start, 4)."""
        stops = self._stops[start : stop + 1].astype(np.int64)
        texts = np.frombuffer(self._texts, np.uint8, stops[-1] - stops[0], stops[0])
        between = np.flatnonzero(texts == 0).reshape(-1, 3) + stops[0]
        return np.diff(np.column_stack([stops[:-1] - 1, between, stops[1:]])) - 1

    def digest(self) -> str:
        """SHA-256 (hex) over every column."""
        sha256 = hashlib.sha256()
        for column in (self._texts, self._stops.data, self.sizes.data, self.labels.data):
            sha256.update(column)
        return sha256.hexdigest()

    def __repr__(self) -> str:
        return f"Entries({len(self):,} images)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The images that become one shard set. `name` is "" where the folder has no splits."""

    name: str
    task: Task
    entries: Entries = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A whole source folder.

    Attributes:
        layout: what it was recognised as.
        classes: class names; a label, or a label id of a mask, is a place in this list; shared by all splits. Empty
            where the source names none.
        ignore_index: label id of masks that is no class; None where there is none, or no masks.
        splits: sorted by name.
        ignored: how many files were no images, by extension.
        empty: class folders without an image; they are no classes.
        bad: what was passed over because it cannot be packed.
        unnamed: how many images lie there that the layout's own lists do not name, and that are left out therefore.
    """

    layout: str
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    ignored: Counter[str] = field(default_factory=Counter)
    empty: tuple[str, ...] = ()
    ignore_index: int | None = None
    bad: tuple[Bad, ...] = ()
    unnamed: int = 0

    def describe(self) -> str:
        """One line for people: ``class folders: 12 classes, 3 splits, 1,234 images``."""
        parts = [f"{len(self.classes)} classes"] if self.classes else []
        if len(self.splits) > 1 or self.splits[0].name:
            parts.append(f"{len(self.splits)} splits ({', '.join(split.name for split in self.splits)})")
        parts.append(f"{sum(len(split.entries) for split in self.splits):,} images")
        more = f" ({self.unnamed:,} more that no row names)" if self.unnamed else ""
        return f"{self.layout}: {', '.join(parts)}{more}"
