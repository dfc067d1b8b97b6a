"""Folders of images: by class (``cat/x.jpg``), by split and class (``train/cat/x.jpg``), or flat and unlabelled."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.file_tree import SPLIT_NAMES, FileTree, check_names, is_image
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["find_folders", "list_classes", "list_flat", "list_splits", "number_labels"]


def find_folders(tree: FileTree) -> Literal["classes", "splits", "flat"]:
    """Which of the three a folder is.

    "splits" where every folder with images is named like one (train, val, test …), "classes" where images lie in
    folders, "flat" where they lie at the top.
    """
    names = tree.names()
    folders = sorted((name for name in names if name.endswith("/")), key=lambda name: name[:-1].lower() in SPLIT_NAMES)
    first = next((name for name in folders if tree.holds_images(name)), None)  # one that is no split, if there is one
    if first is None:
        return "flat"
    return "splits" if first[:-1].lower() in SPLIT_NAMES and not any(map(is_image, names)) else "classes"


def list_flat(tree: FileTree) -> Listing:
    """Every image below the folder, without labels."""
    entries = Entries(Entry(path, size) for path, size in tree.images())
    return _listing(tree, "flat folder", (), [Split(name="", task="unlabeled", entries=entries)])


def list_classes(tree: FileTree) -> Listing:
    """Every image, its class the first folder on its path."""
    _refuse_stray(tree, "class")
    found: dict[str, int] = {}
    entries = _labelled(tree, "", found)
    check_names(found)
    classes = sorted(found)
    number_labels([entries], found, {name: place for place, name in enumerate(classes)})
    empty = tuple(sorted(set(tree.folders()) - set(found)))
    split = Split(name="", task="classification", entries=entries)
    return _listing(tree, "class folders", classes, [split], empty=empty)


def list_splits(tree: FileTree) -> Listing:
    """Every image, its split the first folder on its path and its class the second; splits share their classes.

    A split with all its images right inside has no labels.
    """
    _refuse_stray(tree, "split")
    found: dict[str, int] = {}
    splits = []
    for name in tree.folders():
        entries = _labelled(tree, f"{name}/", found)
        bare = np.flatnonzero(entries.labels < 0)
        if 0 < len(bare) < len(entries):
            first = tree.shown(entries[int(bare[0])].path)
            raise ConfigError(f"{first} lies beside class folders, so it has no class; move it")
        if len(entries):
            task: Literal["unlabeled", "classification"] = "unlabeled" if len(bare) else "classification"
            splits.append(Split(name=name, task=task, entries=entries))
    classes = sorted(found)
    check_names([*classes, *(split.name for split in splits)])
    number_labels((split.entries for split in splits), found, {name: place for place, name in enumerate(classes)})
    return _listing(tree, "split folders", classes, splits)


def number_labels(parts: Iterable[Entries], found: Mapping[str, int], numbers: Mapping[str, int]) -> None:
    """Put class numbers for the labels that were given in the order in which names were found; -1 stays."""
    table = np.full(len(found) + 1, -1, np.int32)
    for name, place in found.items():
        table[place] = numbers[name]
    for entries in parts:
        labels = entries.labels
        labels[:] = table[labels]


def _labelled(tree: FileTree, prefix: str, found: dict[str, int]) -> Entries:
    entries = Entries()
    for path, size in tree.images(prefix):
        name, nested, _ = path[len(prefix) :].partition("/")
        entries.append(Entry(path, size, found.setdefault(name, len(found)) if nested else -1))
    return entries


def _refuse_stray(tree: FileTree, lacking: str) -> None:
    stray = [name for name in tree.names() if is_image(name)]
    if stray:
        raise ConfigError(
            f"{tree.shown(stray[0])} and {len(stray) - 1} other images lie beside folders of images, so they have "
            f"no {lacking}; move them, or pack with layout 'flat'"
        )


def _listing(
    tree: FileTree, layout: str, classes: Sequence[str], splits: Sequence[Split], empty: tuple[str, ...] = ()
) -> Listing:
    if not any(len(split.entries) for split in splits):
        raise tree.no_images()
    return Listing(
        layout=layout,
        classes=tuple(classes),
        splits=tuple(splits),
        ignored=tree.ignored,
        empty=empty,
        bad=tuple(tree.bad),
    )
