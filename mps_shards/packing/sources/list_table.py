"""Lists of images: tables, JSON or text files with a path in each row, and labels, masks, splits or other columns."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.class_folders import number_labels
from mps_shards.packing.sources.file_tree import FileTree, read_classes, refusal
from mps_shards.packing.sources.folder_names import split_word
from mps_shards.packing.sources.image_finder import ImageFinder
from mps_shards.packing.sources.list_columns import TRUE, Roles, roles_of
from mps_shards.packing.sources.list_labels import (
    MOST_CLASSES,
    class_number,
    doubts_about_labels,
    label_names,
    label_text,
    numbers_of,
)
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES, LOOSE_SUFFIXES, read_rows
from mps_shards.packing.sources.listing import Column, Doubt, Entries, Entry, Listing, Split
from mps_shards.shards.manifest import Task

__all__ = ["Table", "list_table", "lists_in"]

Guess: TypeAlias = Callable[[str], tuple[str, str]]  # path of an image -> its split and label

_SPLIT_NAME = re.compile(r"[^./\\\0][^/\\\0]*")
_LOOKED_AT = 5000  # rows from which columns are recognised
_TASKS: Mapping[str, Task] = {"multi-label": "multilabel", "number": "regression", "caption": "captions"}


def lists_in(tree: FileTree) -> list[str]:
    """Names of the files in a folder that could be lists."""
    names = tree.names()
    strict = [name for name in names if name.lower().endswith(LIST_SUFFIXES)]
    return strict or [name for name in names if name.lower().endswith(LOOSE_SUFFIXES)]


def list_table(tree: FileTree, lists: Mapping[str, str]) -> Listing:
    """List the images that a list names, in its order; or those of one list for each split.

    Columns are recognised by name, in upper or lower case (path, file, image …; label, class, breed …; mask; split),
    or by content, or are named by options. Further columns become the sample's ``.json``, and so does the label of
    an image with a mask. Paths are relative to the list, or to --root; an image in a subfolder, or an id without
    extension, is found if exactly one file fits.

    Labels are class indices if all are whole numbers, else class names, numbered in the order of their names. A
    ``classes.txt`` next to the list, one name per line, or --classes gives the names and their order.

    Args:
        lists: split of each list, by the path of the list; "" if a column names the splits, or there are no splits.

    Raises:
        ConfigError: no column names the images, or the list names no image.
        DataError: a row names a file outside of the folder or that is not an image, or a label that is not a class, or
            two images would share a key; the error names the line.
    """
    table = Table(tree)
    for name, split in lists.items():
        table.read(name, split=split)
    kind = next(iter(lists)).rpartition(".")[2]
    return table.listing(f"{'text' if kind == 'txt' else kind.upper()} list{'s' if len(lists) > 1 else ''}")


class Table:
    """Collects the rows of one or several lists into splits. Rows are held only as entries."""

    def __init__(self, tree: FileTree):
        self._tree = tree
        self._splits: dict[str, Entries] = {}
        self._labels: dict[str, int] = {}  # numbered in the order of the rows
        self._first_rows: list[str] = []  # the first row with each label
        self._tables: list[str] = []
        self._finders: dict[str, tuple[ImageFinder, str]] = {}  # finder and column of image names, by list
        self._roles: Roles | None = None
        self._columns: tuple[Column, ...] = ()
        self._vocabulary: dict[str, int] = {}
        self._notes: list[str] = []
        self._doubts: list[Doubt] = []

    def read(self, table: str, *, base: str = "", guess: Guess | None = None, split: str = "") -> None:
        """Add the rows of a list.

        Args:
            base: folder that its paths are relative to, with a slash at its end; "" is the root.
            guess: function that returns split and label of an image for which no column has them; with this function,
                only columns that are named like labels count as labels.
            split: split of all rows for which no column names a split.
        """
        tree, options = self._tree, self._tree.options
        self._tables.append(table)
        if tree.lists.name == tree.files.name:
            tree.use(table)
        named_split = split_word(posixpath.basename(table).rpartition(".")[0]) or ""
        finder = ImageFinder(tree, base=base, suffix=options.suffix or "", split=named_split)
        where = f"{tree.lists.name}/{table}"
        looked_at = [cells for _, cells in islice(read_rows(tree.lists, table), _LOOKED_AT)]
        if not looked_at:
            raise ConfigError(f"{where} has no rows; it needs a line for each image")
        roles = roles_of(looked_at, options, finder, where=where, only_named=guess is not None)
        self._roles = self._roles or roles
        self._finders[table] = finder, roles.image
        self._doubts += roles.doubts
        self._columns = self._columns or roles.shown(list(dict.fromkeys(name for row in looked_at for name in row)))
        if roles.targets == "multi-label":
            self._collect_vocabulary(table, roles)
        for line, cells in read_rows(tree.lists, table):
            self._add_row(f"{where}:{line}", cells, roles, finder, guess or (lambda _: (split, "")))
        self._notes += [
            f"paths of the list are completed: {example}" for example in list(finder.found_elsewhere.values())[:3]
        ]

    def drop_labels(self) -> None:
        """Remove the labels of all rows that were added."""
        self._labels, self._first_rows = {}, []
        for entries in self._splits.values():
            entries.labels[:] = -1

    def listing(self, layout: str) -> Listing:
        """Return the listing of all added rows, with splits sorted by name."""
        tree, options = self._tree, self._tree.options
        if not self._splits:
            tables = ", ".join(map(tree.shown, self._tables))
            raise refusal(tree.bad) or ConfigError(f"no images found by the {layout} in {tables}; it needs rows")
        targets = self._roles.targets if self._roles else "class"
        splits = [
            Split(name=name, task=_TASKS.get(targets) or _task(part, self._lines_of), entries=part)
            for name, part in sorted(self._splits.items())
        ]
        for split in splits:
            _refuse_repeated(split.entries, self._lines_of, by_name=options.keys == "name")
        labels = self._roles.labels if self._roles else ()
        classes = self._class_names(splits)
        tables = ", ".join(posixpath.basename(table) for table in self._tables[:3])
        return Listing(
            layout=layout,
            classes=classes,
            splits=tuple(splits),
            ignored=tree.ignored,
            bad=tuple(tree.bad),
            why=f"{tables} names the images in column {self._roles.image!r}" if self._roles else "",
            labels_from=_origin(labels) if self._labels or self._vocabulary else "",
            columns=self._columns,
            numbers=labels if targets == "number" else (),
            notes=tuple(self._notes),
            doubts=tuple(self._doubts),
        )

    def _lines_of(self, path: str) -> str:
        """Return the lines that name an image, as ``"list.csv:2, list.csv:9"``, by reading the lists again."""
        lines = [
            f"{self._tree.lists.name}/{table}:{line}"
            for table, (finder, column) in self._finders.items()
            for line, cells in read_rows(self._tree.lists, table)
            if finder.path_of(cells.get(column)) == path
        ]
        return ", ".join(lines[:5])

    def _add_row(self, where: str, cells: dict[str, Any], roles: Roles, finder: ImageFinder, guess: Guess) -> None:
        if roles.image not in cells:
            raise ConfigError(
                f"{where}: the column {roles.image!r} that names the image is missing; add it to this row"
            )
        path = finder.find(cells.pop(roles.image), named_by=where)
        given_mask = cells.pop(roles.mask, None) if roles.mask else None
        mask = finder.find(given_mask, named_by=where) if given_mask else ""
        split, guessed = guess(path) if path else ("", "")
        if roles.split:
            split = _split_of(where, cells.pop(roles.split, None), roles) or split
        label, targets, caption = self._targets(where, cells, roles)
        if not roles.labels and not roles.mask:
            label = guessed
        if path is None or mask is None:
            return
        size = self._tree.size(path, named_by=where)
        if not size or (mask and not self._tree.size(mask, named_by=where)):
            return
        for name in roles.labels:
            cells.pop(name, None)
        metadata = {**targets, **{name: cell for name, cell in cells.items() if name not in targets}}
        note = msgspec.json.encode(metadata).decode() if metadata else ""
        number = self._number(where, label)
        self._split(where, split).append(Entry(path, size, number, mask, note=note, caption=caption))

    def _targets(self, where: str, cells: Mapping[str, Any], roles: Roles) -> tuple[str, dict[str, Any], str]:
        """Return the label, the targets for the ``.json`` and the caption of a row."""
        options, columns = self._tree.options, roles.labels
        if not columns:
            return "", {}, ""
        if roles.targets == "number":
            return "", numbers_of(where, cells, columns), ""
        if roles.targets == "multi-label":
            names = set(label_names(where, cells, columns, options.separator))
            return "", {"labels": sorted(self._vocabulary[name] for name in names)}, ""
        if roles.targets == "one-hot":
            ones = [name for name in columns if label_text(where, cells.get(name)).lower() in TRUE]
            if len(ones) != 1:
                raise DataError(
                    f"{where}: {len(ones)} of the columns {', '.join(columns[:5])} are 1, but a class needs exactly "
                    "one; --targets multi-label allows several"
                )
            return ones[0], {}, ""
        text = label_text(where, cells.get(columns[0]))
        if roles.targets == "caption":
            if not text:
                raise DataError(f"{where}: the caption in column {columns[0]!r} is empty; add it, or remove the row")
            return "", {}, text
        return text, {}, ""

    def _collect_vocabulary(self, table: str, roles: Roles) -> None:
        """Number the labels of all rows. All labels must be known before the first entry is made."""
        names = set(self._vocabulary)
        if len(roles.labels) > 1:
            names |= set(roles.labels)
        for line, cells in read_rows(self._tree.lists, table):
            where = f"{self._tree.lists.name}/{table}:{line}"
            found = label_names(where, cells, roles.labels, self._tree.options.separator)
            names.update(found)
        if len(roles.labels) > 1 and names - set(roles.labels):
            names -= set(roles.labels)  # the cells hold names, so the columns are not labels
        ordered = read_classes(self._tree) if self._tree.options.classes is None else ()
        if names - set(ordered):
            is_column = len(roles.labels) > 1 and names == set(roles.labels)
            fixed = self._tree.options.classes is not None
            ordered = tuple(roles.labels if is_column and not fixed else self._tree.class_order(names))
        self._vocabulary = {name: place for place, name in enumerate(ordered)}

    def _number(self, where: str, label: str) -> int:
        if not label:
            return -1
        number = self._labels.setdefault(label, len(self._labels))
        if number == len(self._first_rows):
            self._first_rows.append(where)
        return number

    def _split(self, where: str, name: str) -> Entries:
        if name and not _SPLIT_NAME.fullmatch(name):
            raise DataError(f"{where}: {name!r} cannot name a split; write it like train")
        entries = self._splits.setdefault(name, Entries())
        if len(self._splits) > 1 and "" in self._splits:
            raise DataError(f"{where}: some images belong to a split and others to none; name a split in every row")
        return entries

    def _class_names(self, splits: Sequence[Split]) -> tuple[str, ...]:
        """Return the class names of the set, and number the labels of the entries."""
        given = read_classes(self._tree)
        if self._vocabulary:
            return tuple(self._vocabulary)
        if self._labels:
            self._doubts += self._doubts_about_labels(has_names=bool(given or self._tree.options.classes))
            one_hot = self._roles.labels if self._roles and self._roles.targets == "one-hot" else ()
            names, numbers = self._classes(given or one_hot)
            number_labels(self._splits.values(), self._labels, numbers)
            return names
        return () if all(split.task in ("unlabeled", "regression", "captions") for split in splits) else given

    def _doubts_about_labels(self, *, has_names: bool) -> Iterator[Doubt]:
        roles = self._roles
        if roles is None or not roles.labels or roles.targets != "class" or self._tree.options.targets or has_names:
            return
        labels = np.concatenate([entries.labels for entries in self._splits.values()])
        counts = np.bincount(labels[labels >= 0], minlength=len(self._labels)).tolist()
        yield from doubts_about_labels(dict(zip(self._labels, counts, strict=True)), roles.labels[0])

    def _classes(self, given: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """Return the class names, and the class index of every label."""
        numbers = {text: class_number(text) for text in self._labels}
        source = self._tree.shown("classes.txt")
        if self._tree.options.classes is not None:
            named = [text for text, number in numbers.items() if number is None]
            given, source = tuple(self._tree.class_order(named)), self._tree.options.classes
        if given:
            numbers |= {name: place for place, name in enumerate(given)}
            cause, most = f"none of the {len(given)} classes in {source}", len(given)
        elif None in numbers.values() or (self._tree.options.targets == "class" and _are_far_apart(numbers.values())):
            given = tuple(self._tree.class_order(self._labels))
            return given, {name: place for place, name in enumerate(given)}
        else:
            cause, most = f"not a class index (they go from 0 to {MOST_CLASSES - 1:,})", MOST_CLASSES
        checked: dict[str, int] = {}
        texts: dict[int, tuple[str, str]] = {}
        for text, where in zip(self._labels, self._first_rows, strict=True):
            number = numbers[text]
            if number is None or not 0 <= number < most:
                hint = "; --targets class makes a class of each value" if number is not None and not given else ""
                raise DataError(f"{where}: label {text!r} is {cause}{hint}")
            other, before = texts.setdefault(number, (text, where))
            if other != text and other.partition(".")[0] != text.partition(".")[0] and text not in given:
                raise DataError(
                    f"{where}: label {text!r} and {other!r} in {before} would be one class; write both in the same way"
                )
            checked[text] = number
        if not given:
            unused = [number for number in range(max(texts)) if number not in texts]
            none = f"; no image has {', '.join(map(str, unused[:5]))}{' ...' if unused[5:] else ''}" if unused else ""
            self._notes.append(f"labels are class indices from {min(texts)} to {max(texts)}{none}")
        return given or tuple(map(str, range(max(checked.values()) + 1))), checked


def _are_far_apart(numbers: Any) -> bool:
    values = [number for number in numbers if number is not None]
    return bool(values) and (min(values) < 0 or max(values) + 1 > 2 * len(values) + 10)


def _origin(columns: Sequence[str]) -> str:
    if not columns:
        return "the names of folders"
    names = ", ".join(map(repr, columns[:4])) + (" ..." if len(columns) > 4 else "")
    return f"column {names}" if len(columns) == 1 else f"columns {names}"


def _split_of(where: str, given: Any, roles: Roles) -> str:
    if roles.flags is not None:
        return roles.flags[0] if label_text(where, given).lower() in TRUE else roles.flags[1]
    if given is None:
        return ""
    if not isinstance(given, str):
        raise DataError(f"{where}: {given!r} cannot name a split; write it like train")
    return given.strip()


def _task(entries: Entries, lines_of: Callable[[str], str]) -> Task:
    """Return the task of these entries, of which all or none must have a target."""
    masks = np.fromiter((bool(entry.mask) for entry in entries), np.bool_, len(entries))
    targets: tuple[tuple[Task, npt.NDArray[np.bool_], str], ...]
    targets = (("segmentation", masks, "mask"), ("classification", entries.labels >= 0, "label"))
    for task, has, target in targets:
        if has.all():
            return task
        if has.any():
            lacking = entries[int(np.argmin(has))].path
            raise DataError(
                f"{lines_of(lacking)}: {lacking} has no {target}, but other images of its split have one; "
                f"add the {target}, or give the image another split"
            )
    return "unlabeled"


def _refuse_repeated(entries: Entries, lines_of: Callable[[str], str], *, by_name: bool) -> None:
    """Raise DataError if two entries share a key. Keys are compared as hashes, because there may be millions."""
    paths = (entry.path if by_name else entry.path.rpartition(".")[0] for entry in entries)
    hashes = np.fromiter(map(hash, paths), np.int64, len(entries))
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
        one, other = (entries[int(order[place + step])].path for step in (0, 1))
        if one == other:
            raise DataError(
                f"{lines_of(one)}: {one} is named by two rows of one split: remove one, or write an image with "
                "several labels as one row (cat|dog), and boxes as COCO"
            )
        if one.rpartition(".")[0] == other.rpartition(".")[0]:
            raise DataError(
                f"{one} and {other} would share the key {posixpath.basename(one.rpartition('.')[0])!r}; "
                "rename one, or keep extensions in keys (--keys name)"
            )
