"""The listing of a source: the images of each split with their targets, in the order of their paths or of a list."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from mps_shards.packing.label_id_maps import LabelIdMap
from mps_shards.shards.manifest import Task
from mps_shards.wording import counted

__all__ = ["Bad", "Column", "Doubt", "Entries", "Entry", "Listing", "Split"]


class Entry(NamedTuple):
    """One image and what belongs to it. Paths are relative to the source, with forward slashes.

    Attributes:
        path: path of the image; the key of the sample is made from it, so it has an extension.
        size: bytes of the image when it was listed; 0 if the source knows them only when it reads the image.
        label: class index; -1 means none.
        mask: path of the mask; "" means none.
        shapes: JSON that a label map is drawn from (COCO annotations of this image); "" means none.
        note: JSON object that becomes the sample's ``.json``; "" means none.
        caption: text that becomes the sample's ``.txt``; "" means none.
        place: a number by which the source finds the sample again, such as a row or an offset; -1 means none.
    """

    path: str
    size: int
    label: int = -1
    mask: str = ""
    shapes: str = ""
    note: str = ""
    caption: str = ""
    place: int = -1


class Bad(NamedTuple):
    """A file that was left out because it cannot be packed: its path relative to the source, and the reason."""

    path: str
    reason: str


class Doubt(NamedTuple):
    """An ambiguity of a source, which the user must settle.

    Attributes:
        question: what was found, and why it is ambiguous.
        answer: the options, or the change of the source, that settle it.
        about: "layout" if naming a layout settles it.
    """

    question: str
    answer: str
    about: Literal["layout", "content"] = "layout"


class Column(NamedTuple):
    """A column of a list, and what it is used for: image, label, split, mask, metadata or nothing."""

    name: str
    role: str


class Entries(Sequence[Entry]):
    """Many entries in columns: about 28 bytes per entry besides its texts; five million tuples would take 2 GB."""

    def __init__(self, entries: Iterable[Entry] = (), *, prefix: str = ""):
        self._prefix = prefix  # beginning of the paths of all images and masks
        self._texts, self._ends = bytearray(), array("Q", [0])
        self._sizes, self._labels, self._places = array("Q"), array("i"), array("q")
        for entry in entries:
            self.append(entry)

    def append(self, entry: Entry) -> None:
        """Add an entry. This is an error while an array of `sizes` or `labels` is held."""
        texts = "\0".join((entry.path, entry.mask, entry.shapes, entry.note, entry.caption))
        self._sizes.append(entry.size)
        self._places.append(entry.place)
        self._labels.append(entry.label)
        self._texts += texts.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._texts))

    @property
    def sizes(self) -> npt.NDArray[np.uint64]:
        """uint64 (n,), bytes of the images."""
        return np.asarray(self._sizes, np.uint64)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """int32 (n,), a view that may be written to: the order of the classes is known only at the end."""
        return np.asarray(self._labels, np.int32)

    @property
    def _stops(self) -> npt.NDArray[np.uint64]:
        """uint64 (n + 1,), where the texts of each entry begin and end."""
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
        path, mask, shapes, note, caption = texts.split("\0")
        mask = mask and self._prefix + mask
        return Entry(
            self._prefix + path,
            self._sizes[place],
            self._labels[place],
            mask,
            shapes,
            note,
            caption,
            self._places[place],
        )

    def take(self, numbers: Iterable[int]) -> "Entries":
        """Return the entries with these numbers, in this order."""
        return Entries(self[number] for number in numbers)

    def below(self, folder: str) -> "Entries":
        """Return these entries with paths below a folder. Both share their columns, so neither may be changed."""
        moved = Entries(prefix=folder + self._prefix)
        for name in ("_texts", "_ends", "_sizes", "_labels", "_places"):
            setattr(moved, name, getattr(self, name))
        return moved

    def text_bytes(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the bytes of path, mask, shapes, note and caption of these entries: int64 (stop - start, 5)."""
        stops = self._stops[start : stop + 1].astype(np.int64)
        texts = np.frombuffer(self._texts, np.uint8, stops[-1] - stops[0], stops[0])
        between = np.flatnonzero(texts == 0).reshape(-1, 4) + stops[0]
        return np.diff(np.column_stack([stops[:-1] - 1, between, stops[1:]])) - 1

    def digest(self) -> str:
        """Return the SHA-256, as hex, over every column that affects a byte of the shards."""
        sha256 = hashlib.sha256(self._prefix.encode("utf-8", "surrogateescape"))
        for column in (self._texts, self._stops.data, self.sizes.data, self.labels.data):
            sha256.update(column)
        return sha256.hexdigest()

    def __repr__(self) -> str:
        return f"Entries({len(self):,} images)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The images that become one shard set. `name` is "" if the source has no splits."""

    name: str
    task: Task
    entries: Entries = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a source by split, and everything else that was learned when they were listed.

    Attributes:
        layout: recognised layout of the source.
        classes: class names; a label, or a label id of a mask, is an index of this list; shared by all splits. Empty
            if the source names none.
        ignore_index: label id of masks that is not a class; None if there is none, or no masks.
        splits: sorted by name.
        ignored: number of files that are not images, by extension; or of samples that were left out, by the reason.
        empty: class folders without an image; they do not become classes.
        bad: files that were left out because they cannot be packed.
        identity: value that identifies content beyond the entries, such as the fingerprint of a shard set.
        recorded: further options for the manifest, which describe the source.
        unnamed: number of images that were left out because no list or annotation file names them.
        why: reason for which the layout was recognised.
        labels_from: origin of the labels, such as "column 'breed'".
        columns: the columns of a list and what each is used for.
        numbers: names of the numbers that are the targets, for the task "regression".
        id_map: map that changes the label ids of the masks; None if they stay.
        annotations: paths of files that look like annotations and are not used.
        notes: assumptions, one sentence each.
        doubts: questions that the user must decide before anything is written.
    """

    layout: str
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    ignored: Counter[str] = field(default_factory=Counter)
    empty: tuple[str, ...] = ()
    ignore_index: int | None = None
    bad: tuple[Bad, ...] = ()
    unnamed: int = 0
    identity: str = ""
    recorded: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    why: str = ""
    labels_from: str = ""
    columns: tuple[Column, ...] = ()
    numbers: tuple[str, ...] = ()
    id_map: LabelIdMap | None = None
    annotations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def describe(self) -> str:
        """Describe the listing in one line: ``class folders: 12 classes, 2 splits (test, train), 1,234 images``."""
        parts = [f"{len(self.classes):,} class{'' if len(self.classes) == 1 else 'es'}"] if self.classes else []
        if len(self.splits) > 1 or self.splits[0].name:
            names = ", ".join(split.name for split in self.splits)
            parts.append(f"{counted(len(self.splits), 'split')} ({names})")
        parts.append(counted(sum(len(split.entries) for split in self.splits), "image"))
        more = f" ({self.unnamed:,} more that no row names)" if self.unnamed else ""
        return f"{self.layout}: {', '.join(parts)}{more}"
