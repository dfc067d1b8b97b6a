"""Tables with images as a source of packing: Parquet files, and the Arrow files of ``Dataset.save_to_disk``."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.class_folders import number_labels
from mps_shards.packing.sources.image_kinds import extension_of
from mps_shards.packing.sources.list_labels import doubts_about_labels
from mps_shards.packing.sources.listing import Bad, Doubt, Entries, Entry, Listing, Split
from mps_shards.packing.sources.source import Source, SourceSample, Stamp
from mps_shards.packing.sources.table_columns import TableColumns, columns_of
from mps_shards.shards.manifest import Task
from mps_shards.wording import counted

__all__ = ["Chunk", "TableFiles", "TableSource", "Value", "split_of"]

_FEW = 20  # with fewer rows, all labels may differ and still be classes
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")
_SPLIT_FILE = re.compile(r"(.+?)[-_.]\d{3,}(-of-\d+)?")


class Value(NamedTuple):
    """An encoded image in a table: its place, its size in bytes (-1 if null) and its first bytes."""

    place: int
    size: int
    head: bytes


class Chunk(NamedTuple):
    """Some rows of a table.

    Attributes:
        split: name of the split, taken from the name of the file; "" if the file name contains none.
        images: values of each column with images.
        cells: values of the other columns, by name.
    """

    split: str
    rows: int
    images: Sequence[Iterator[Value]]
    cells: Mapping[str, Sequence[Any]]


class TableFiles(Protocol):
    """The files of a table. Can be pickled for other processes, also after `chunks`.

    Attributes:
        layout: kind of the table, in one or two words.
    """

    layout: str

    @property
    def name(self) -> str:
        """The file or folder, for messages."""
        ...

    def schema(self) -> Any:
        """Return the `pyarrow.Schema` that all files have."""
        ...

    def chunks(self, images: Sequence[str], others: Sequence[str]) -> Iterator[Chunk]:
        """Yield all rows in order.

        Args:
            images: columns with encoded images.
            others: columns to return completely.
        """
        ...

    def read(self, place: int, size: int) -> bytes:
        """Return an encoded image. May be called from many threads."""
        ...

    def stamp(self, place: int) -> Stamp: ...


class TableSource(Source):
    """A source of the rows of a table."""

    def __init__(self, files: TableFiles, default_out: Path | None = None):
        self._files = files
        self.default_out = default_out

    @property
    def name(self) -> str:
        return self._files.name

    def listing(self, options: SourceOptions) -> Listing:
        """List every row. The images of Parquet files are read, because the files do not state image sizes."""
        columns = columns_of(self._files.schema(), options, where=self.name)
        rows = _Rows(self.name, self._files.layout, columns, options)
        images = [name for name in (columns.image, columns.mask) if name]
        others = [name for name in (columns.label, columns.caption, columns.split, *columns.kept) if name]
        for chunk in self._files.chunks(images, others):
            rows.take(chunk)
        return rows.listing()

    def read(self, entry: Entry) -> SourceSample:
        image = self._files.read(entry.place, entry.size)
        mask = b""
        if entry.mask:
            place, _, size = entry.mask.partition("+")
            mask = self._files.read(int(place), int(size))
        return SourceSample(extension=entry.path.rpartition(".")[2], image=image, mask=mask)

    def stamp(self, entry: Entry) -> Stamp:
        return self._files.stamp(entry.place)

    def ending(self, entry: Entry) -> bytes:
        return self._files.read(entry.place, entry.size)[-4096:]


class _Rows:
    """Collects the rows of a table as entries by split."""

    def __init__(self, name: str, layout: str, columns: TableColumns, options: SourceOptions):
        self._layout = layout
        self._name, self._columns, self._options = name, columns, options
        self._splits: dict[str, Entries] = defaultdict(Entries)
        self._found: dict[str, int] = {}  # class names or numbers of labels without a feature ClassLabel
        self._most = -1  # the largest class number of multi-label rows without a feature ClassLabel
        self._bad: list[Bad] = []
        self._row: dict[str, int] = defaultdict(int)

    def take(self, chunk: Chunk) -> None:
        columns, cells = self._columns, chunk.cells
        nothing = [None] * chunk.rows
        labels, captions = cells.get(columns.label, nothing), cells.get(columns.caption, nothing)
        splits = cells.get(columns.split, nothing)
        masks = chunk.images[1] if columns.mask else iter(nothing)
        for row, (value, mask) in enumerate(zip(chunk.images[0], masks, strict=True)):
            split = chunk.split if splits[row] is None else str(splits[row])
            number = self._row[split]
            self._row[split] += 1
            path = f"{split}/{number:08d}" if split else f"{number:08d}"
            if value.size <= 0 or (mask is not None and mask.size <= 0):
                self._leave_out(path, "the image or its mask is missing: the row holds only its path, or nothing")
                continue
            label, note = self._target(labels[row], {name: cells[name][row] for name in columns.kept})
            self._splits[split].append(
                Entry(
                    f"{path}.{extension_of(value.head)}",
                    value.size,
                    label,
                    mask=f"{mask.place}+{mask.size}" if mask is not None else "",
                    note=note,
                    caption="" if captions[row] is None else str(captions[row]).replace("\0", " "),
                    place=value.place,
                )
            )

    def listing(self) -> Listing:
        """Return the listing of all rows.

        Raises:
            ConfigError: no row holds an image.
        """
        columns = self._columns
        if not any(map(len, self._splits.values())):
            raise ConfigError(f"{self._name} holds no images in column {columns.image!r}")
        classes = columns.classes or self._numbered()
        return Listing(
            layout=self._layout,
            why=f"column {columns.image!r} holds encoded images",
            classes=classes,
            splits=tuple(
                Split(name=name, task=self._task(entries), entries=entries)
                for name, entries in sorted(self._splits.items())
                if len(entries)
            ),
            bad=tuple(self._bad),
            labels_from=f"column {columns.label!r}" if columns.label else "",
            columns=columns.shown(),
            numbers=(columns.label,) if columns.is_number else (),
            doubts=(*columns.doubts, *self._doubts_about_missing_labels(), *self._doubts(classes)),
        )

    def _doubts_about_missing_labels(self) -> Iterator[Doubt]:
        """Yield doubts about splits in which some rows have a label and others have none."""
        for split, entries in self._splits.items():
            lacking = np.flatnonzero(entries.labels < 0)
            if 0 < len(lacking) < len(entries):
                path = entries[int(lacking[0])].path
                row = path.rpartition("/")[2].partition(".")[0].lstrip("0") or "0"
                rows = counted(len(entries), "row") + (f" of split {split!r}" if split else "")
                yield Doubt(
                    f"{len(lacking):,} of {rows} (such as row {row}) have no label in column {self._columns.label!r}",
                    "give them a label, or remove them: training finds samples without a class",
                    "content",
                )

    def _doubts(self, classes: Sequence[str]) -> Iterator[Doubt]:
        column = self._columns.label
        if self._columns.classes or self._columns.several or not self._found or self._options.targets == "class":
            return
        rows = sum(map(len, self._splits.values()))
        labels = np.concatenate([entries.labels for entries in self._splits.values()])
        counts = np.bincount(labels[labels >= 0], minlength=len(classes)).tolist()
        are_whole = all(name.removeprefix("-").isdecimal() for name in classes)  # whole numbers in a table are classes
        doubts = [] if are_whole else list(doubts_about_labels(dict(zip(classes, counts, strict=True)), column))
        if not doubts and rows >= _FEW and 2 * len(classes) > rows:
            how = "name the column of the classes with --label-column, or accept these labels"
            yield Doubt(
                f"column {column!r} of {self._name} has {len(classes):,} labels for {rows:,} images", how, "content"
            )
        yield from doubts

    def _task(self, entries: Entries) -> Task:
        columns = self._columns
        if columns.mask:
            return "segmentation"
        if columns.several:
            return "multilabel"
        if columns.is_number:
            return "regression"
        if columns.caption:
            return "captions"
        return "classification" if columns.label and (entries.labels >= 0).any() else "unlabeled"

    def _target(self, label: Any, others: dict[str, Any]) -> tuple[int, str]:
        """Return the class number of a cell, and the JSON of the metadata of its row."""
        number = -1
        note = {name: _plain(value) for name, value in others.items() if value is not None}
        if self._columns.is_number:
            note = {self._columns.label: self._value(label), **note}
        elif self._columns.several:
            note["labels"] = sorted({self._one_of_several(each) for each in label or () if each is not None})
        elif label is not None and label != -1:  # the Hub's value for the missing labels of a test split
            number = self._number(label)
        return number, msgspec.json.encode(note).decode() if note else ""

    def _value(self, label: Any) -> float | int:
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise DataError(
                f"{self._name}: {label!r} in column {self._columns.label!r} is not a number to predict; correct it, or "
                "remove the row"
            )
        return label

    def _number(self, label: Any) -> int:
        if not self._columns.classes:
            whole = isinstance(label, float) and label.is_integer()
            return self._found.setdefault(str(int(label) if whole else label), len(self._found))
        classes = self._columns.classes
        if isinstance(label, str) and label in classes:
            return classes.index(label)
        if not isinstance(label, int) or not 0 <= label < len(classes):
            raise DataError(f"{self._name}: label {label!r} is not a class: the file names {len(classes)} classes")
        return label

    def _one_of_several(self, label: Any) -> int:
        if self._columns.classes:
            return self._number(label)
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise ConfigError(
                f"{self._name}: column {self._columns.label!r} has lists of {label!r}, whose classes the file does not "
                "name; store class numbers, or a feature ClassLabel"
            )
        self._most = max(self._most, label)
        return label

    def _numbered(self) -> tuple[str, ...]:
        """Return the class names, sorted as text or as numbers, after renumbering the labels in this order."""
        if self._columns.several:
            return tuple(map(str, range(self._most + 1)))
        are_numbers = all(map(_NUMBER.fullmatch, self._found))
        names = sorted(self._found, key=float) if are_numbers else sorted(self._found)
        places = {name: number for number, name in enumerate(names)}
        number_labels(self._splits.values(), self._found, places)
        return tuple(names)

    def _leave_out(self, path: str, reason: str) -> None:
        shown = f"{self._name}: row {path.rpartition('/')[2].lstrip('0') or 0}: {reason}"
        if not self._options.skip_bad:
            raise DataError(f"{shown}; leave such rows out with --on-bad-sample skip")
        self._bad.append(Bad(path, shown))


def split_of(path: str, root: str = "") -> str:
    """Return the split that a path names: ``data/train-00000-of-00005.parquet``, ``default/test/0000.parquet``."""
    name = path.rpartition("/")[2].rpartition(".")[0]
    if match := _SPLIT_FILE.fullmatch(name):
        return match[1]
    folder = path.removeprefix(root).strip("/").rpartition("/")[0].rpartition("/")[2]
    return folder if name.isdigit() and folder else "" if name.isdigit() else name


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
