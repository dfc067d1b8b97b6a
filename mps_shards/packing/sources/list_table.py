"""Lists of images: a CSV, TSV or JSONL file with a path, and a label, a mask, a split or anything else beside it."""

import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.class_folders import number_labels
from mps_shards.packing.sources.file_tree import FileTree, read_classes
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES, read_rows, role_of
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.shards.manifest import Task

__all__ = ["Table", "list_table", "lists_in"]

Guess: TypeAlias = Callable[[str], tuple[str, str]]  # path of an image -> its split and label

MOST_CLASSES = 1_000_000  # a number beyond is no class; a manifest with so many names would be 10 MB
_NUMBER = re.compile(r"-?\d{1,18}(\.0+)?")  # pandas writes 3.0 where a column has gaps
_SPLIT_NAME = re.compile(r"[^./\\\0][^/\\\0]*")


def lists_in(tree: FileTree) -> list[str]:
    """Names of the files in a folder that could be lists."""
    return [name for name in tree.names() if Path(name).suffix.lower() in LIST_SUFFIXES]


def list_table(tree: FileTree, name: str) -> Listing:
    """The images that a list in the folder names, in its order.

    Columns are found by name, in upper or lower case: the image's path (path, file, filename, image …), and where
    there are any its label (label, class, category, target), mask and split. Further columns become the sample's
    ``.json``, and so does the label of an image with a mask. Paths are relative to the list.

    Labels are class numbers where all are whole numbers, else class names, numbered in the order of their names. A
    ``classes.txt`` beside the list, one name a line, gives the names and their order.

    Raises:
        ConfigError: no column names the images, or the list names none.
        DataError: naming the line: a file that is missing, outside of the folder or no image, or a label that is no
            class; or two images that would share a key.
    """
    table = Table(tree)
    table.read(name)
    return table.listing(f"{Path(name).suffix[1:].upper()} list")


class Table:
    """Collects rows of one or several lists into splits; holds no row but as an entry."""

    def __init__(self, tree: FileTree):
        self._tree = tree
        self._splits: dict[str, Entries] = {}
        self._labels: dict[str, int] = {}  # numbered as they are met
        self._met: list[str] = []  # the row of each
        self._tables: list[str] = []

    def read(self, table: str, *, base: str = "", guess: Guess = lambda path: ("", "")) -> None:
        """Take in the rows of a list.

        Args:
            base: folder that its paths are relative to, with a slash at its end; "" is the source itself.
            guess: tells what no column does.
        """
        self._tables.append(table)
        columns: tuple[str, ...] = ()
        role: dict[str, str] = {}
        for line, cells in read_rows(self._tree, table):
            where = f"{self._tree.shown(table)}:{line}"
            if columns != tuple(cells):
                columns, role = tuple(cells), role_of(cells)
            if "path" not in role:
                raise ConfigError(
                    f"{where}: no column names the image files (columns: {', '.join(columns)}); call that one 'path'"
                )
            if "mask" in role:
                role.pop("label", None)
            found = {name: cells.pop(column) for name, column in role.items()}
            path = self._tree.inside(found["path"], base, named_by=where)
            mask = self._tree.inside(found["mask"], base, named_by=where) if found.get("mask") else ""
            split, label = guess(path)
            if "label" in found or "mask" in found:
                label = _label(where, found.get("label"))
            size = self._tree.size(path, named_by=where)
            if size and (not mask or self._tree.size(mask, named_by=where)):
                note = msgspec.json.encode(cells).decode() if cells else ""
                entry = Entry(path, size, self._number(where, label), mask, note=note)
                self._split(where, found.get("split", split)).append(entry)

    def drop_labels(self) -> None:
        """Forget the labels of all rows so far."""
        self._labels, self._met = {}, []
        for entries in self._splits.values():
            entries.labels[:] = -1

    def listing(self, layout: str) -> Listing:
        """What was read, splits by name."""
        if not self._splits:
            raise ConfigError(
                f"no images found by the {layout} in {', '.join(map(self._tree.shown, self._tables))}; it needs rows"
            )
        splits = [Split(name=name, task=_task(part), entries=part) for name, part in sorted(self._splits.items())]
        for split in splits:
            _refuse_twins(split.entries, by_name=self._tree.by_name)
        classes = read_classes(self._tree)
        if self._labels:
            classes, numbers = self._classes(classes)
            number_labels(self._splits.values(), self._labels, numbers)
        elif all(split.task == "unlabeled" for split in splits):
            classes = ()
        return Listing(
            layout=layout,
            classes=classes,
            splits=tuple(splits),
            ignored=self._tree.ignored,
            bad=tuple(self._tree.bad),
        )

    def _number(self, where: str, label: str) -> int:
        if not label:
            return -1
        number = self._labels.setdefault(label, len(self._labels))
        if number == len(self._met):
            self._met.append(where)
        return number

    def _split(self, where: str, name: Any) -> Entries:
        if name and not (isinstance(name, str) and _SPLIT_NAME.fullmatch(name)):
            raise DataError(f"{where}: {name!r} cannot name a split; write it like train")
        entries = self._splits.setdefault(name or "", Entries())
        if len(self._splits) > 1 and "" in self._splits:
            raise DataError(f"{where}: some images belong to a split and others to none; name one for each")
        return entries

    def _classes(self, given: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """Class names, and the number of every label met."""
        numbers = {text: _class_number(text) for text in self._labels}
        if given:
            numbers |= {name: place for place, name in enumerate(given)}
            what, most = f"none of the {len(given)} classes in {self._tree.shown('classes.txt')}", len(given)
        elif None in numbers.values():
            given = tuple(sorted(self._labels))
            return given, {name: place for place, name in enumerate(given)}
        else:
            what, most = f"no class number (they go from 0 to {MOST_CLASSES - 1:,})", MOST_CLASSES
        checked: dict[str, int] = {}
        for text, where in zip(self._labels, self._met, strict=True):
            number = numbers[text]
            if number is None or not 0 <= number < most:
                raise DataError(f"{where}: label {text!r} is {what}")
            checked[text] = number
        return given or tuple(map(str, range(max(checked.values()) + 1))), checked


def _label(where: str, given: Any) -> str:
    """A label's text; "" is none."""
    if given is None or isinstance(given, str):
        return (given or "").strip()
    if isinstance(given, int | float) and not isinstance(given, bool):
        return str(given)
    raise DataError(f"{where}: label {given!r} is neither a name nor a number")


def _class_number(text: str) -> int | None:
    return int(text.partition(".")[0]) if _NUMBER.fullmatch(text) else None


def _task(entries: Entries) -> Task:
    """What the entries' targets are; all must have one, or none."""
    masks = np.fromiter((bool(entry.mask) for entry in entries), np.bool_, len(entries))
    targets: tuple[tuple[Task, npt.NDArray[np.bool_], str], ...]
    targets = (("segmentation", masks, "mask"), ("classification", entries.labels >= 0, "label"))
    for task, has, target in targets:
        if has.all():
            return task
        if has.any():
            lacking = entries[int(np.argmin(has))].path
            raise DataError(f"{lacking} has no {target}, as other images of its split have; give it one, or a split")
    return "unlabeled"


def _refuse_twins(entries: Entries, *, by_name: bool) -> None:
    """Two entries of one key are an error; the keys are compared as hashes, for they may be millions."""
    paths = (entry.path if by_name else entry.path.rpartition(".")[0] for entry in entries)
    hashes = np.fromiter(map(hash, paths), np.int64, len(entries))
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
        one, other = (entries[int(order[place + step])].path for step in (0, 1))
        if one == other:
            raise DataError(f"{one} is named twice in one split; remove one of its rows")
        if one.rpartition(".")[0] == other.rpartition(".")[0]:
            raise DataError(
                f"{one} and {other} would share the key {posixpath.basename(one.rpartition('.')[0])!r}; "
                "rename one, or keep extensions in keys (--keys name)"
            )
