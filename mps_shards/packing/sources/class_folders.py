"""Folders of images: by class (``cat/x.jpg``), by split and class (``train/cat/x.jpg``), or flat and unlabelled."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source_tree import SPLIT_NAMES, Source, check_names, is_image

__all__ = ["find_folders", "list_classes", "list_flat", "list_splits", "number_labels"]


def find_folders(source: Source) -> Literal["classes", "splits", "flat"]:
    """Which of the three a folder is.

    "splits" where every folder with images is named like one (train, val, test …), "classes" where images lie in
    folders, "flat" where they lie at the top.
    """
    names = source.names()
    folders = sorted((name for name in names if name.endswith("/")), key=lambda name: name[:-1].lower() in SPLIT_NAMES)
    first = next((name for name in folders if source.holds_images(name)), None)  # one that is no split, if there is one
    if first is None:
        return "flat"
    return "splits" if first[:-1].lower() in SPLIT_NAMES and not any(map(is_image, names)) else "classes"


def list_flat(source: Source) -> Listing:
    """Every image below the folder, without labels."""
    entries = Entries(Entry(path, size) for path, size in source.images())
    return _listing(source, "flat folder", (), [Split(name="", task="unlabeled", entries=entries)])


def list_classes(source: Source) -> Listing:
    """Every image, its class the first folder on its path."""
    _refuse_stray(source, "class")
    found: dict[str, int] = {}
    entries = _labelled(source, "", found)
    check_names(found)
    classes = sorted(found)
    number_labels([entries], found, {name: place for place, name in enumerate(classes)})
    empty = tuple(sorted(set(source.folders()) - set(found)))
    split = Split(name="", task="classification", entries=entries)
    return _listing(source, "class folders", classes, [split], empty=empty)


def list_splits(source: Source) -> Listing:
    """Every image, its split the first folder on its path and its class the second; splits share their classes.

    A split with all its images right inside has no labels.
    """
    _refuse_stray(source, "split")
    found: dict[str, int] = {}
    splits = []
    for name in source.folders():
        entries = _labelled(source, f"{name}/", found)
        bare = np.flatnonzero(entries.labels < 0)
        if 0 < len(bare) < len(entries):
            first = source.folder / entries[int(bare[0])].path
            raise ConfigError(f"{first} lies beside class folders, so it has no class; move it")
        if len(entries):
            task: Literal["unlabeled", "classification"] = "unlabeled" if len(bare) else "classification"
            splits.append(Split(name=name, task=task, entries=entries))
    classes = sorted(found)
    check_names([*classes, *(split.name for split in splits)])
    number_labels((split.entries for split in splits), found, {name: place for place, name in enumerate(classes)})
    return _listing(source, "split folders", classes, splits)


def number_labels(parts: Iterable[Entries], found: Mapping[str, int], numbers: Mapping[str, int]) -> None:
    """Put class numbers for the labels that were given in the order in which names were found; -1 stays."""
    table = np.full(len(found) + 1, -1, np.int32)
    for name, place in found.items():
        table[place] = numbers[name]
    for entries in parts:
        labels = entries.labels
        labels[:] = table[labels]


def _labelled(source: Source, prefix: str, found: dict[str, int]) -> Entries:
    entries = Entries()
    for path, size in source.images(prefix):
        name, nested, _ = path[len(prefix) :].partition("/")
        entries.append(Entry(path, size, found.setdefault(name, len(found)) if nested else -1))
    return entries


def _refuse_stray(source: Source, lacking: str) -> None:
    stray = [name for name in source.names() if is_image(name)]
    if stray:
        raise ConfigError(
            f"{source.folder / stray[0]} and {len(stray) - 1} other images lie beside folders of images, so they have "
            f"no {lacking}; move them, or pack with layout 'flat'"
        )


def _listing(
    source: Source, layout: str, classes: Sequence[str], splits: Sequence[Split], empty: tuple[str, ...] = ()
) -> Listing:
    if not any(len(split.entries) for split in splits):
        raise source.no_images()
    return Listing(
        layout=layout,
        classes=tuple(classes),
        splits=tuple(splits),
        ignored=source.ignored,
        empty=empty,
        bad=tuple(source.bad),
    )
