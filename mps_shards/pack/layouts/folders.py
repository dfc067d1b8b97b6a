"""Folders of images: by class (``cat/x.jpg``), by split and class (``train/cat/x.jpg``), or flat and unlabelled."""

import os
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.pack.layouts.listing import Entry, Listing, Split
from mps_shards.shards.sample import IMAGE_FIELDS

__all__ = ["Layout", "list_folders"]

Layout: TypeAlias = Literal["auto", "classes", "splits", "flat"]
SPLIT_NAMES = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"])


def list_folders(source: Path, *, layout: Layout = "auto", by_name: bool = False) -> Listing:
    """List the images below a folder.

    "auto" finds splits where every top folder with images is named like one (train, val, test …), class folders where
    images lie in folders, and a flat folder where they lie at the top. Hidden files are passed over, links followed.

    Args:
        by_name: keys will hold file extensions, so ``a.jpg`` may lie beside ``a.png``.

    Raises:
        ConfigError: no images, or an arrangement that fits no layout.
        DataError: an empty file, or two files that would share a key.
        StorageError: a folder cannot be read.
    """
    if layout not in get_args(Layout):
        raise ConfigError(f"layout {layout!r} is none of {', '.join(get_args(Layout))}")
    entries, ignored, folders = _walk(source, by_name=by_name)
    if not entries:
        raise ConfigError(f"no images found in {source} (looked for {', '.join(IMAGE_FIELDS)})")
    tops = {_folder(path) for path, _ in entries}
    if layout == "auto":
        layout = "flat" if tops == {""} else "splits" if all(top.lower() in SPLIT_NAMES for top in tops) else "classes"
    if layout == "flat":
        flat = Split(name="", task="unlabeled", entries=[Entry(path, size, -1) for path, size in entries])
        return Listing(layout="flat folder", classes=(), splits=(flat,), ignored=ignored)
    if "" in tops:
        stray = [path for path, _ in entries if "/" not in path]
        raise ConfigError(
            f"{source / stray[0]} and {len(stray) - 1} other images lie beside folders of images, so they have no "
            f"{'split' if layout == 'splits' else 'class'}; move them, or pack with layout 'flat'"
        )
    prefixes = sorted(f"{top}/" for top in tops) if layout == "splits" else [""]
    unlabeled = _flat_splits(source, entries, prefixes) if layout == "splits" else set()
    labelled = [prefix for prefix in prefixes if prefix not in unlabeled]
    classes = sorted({_class(path, prefix) for path, _ in entries for prefix in labelled if path.startswith(prefix)})
    _check_names([*classes, *prefixes])
    number = {name: place for place, name in enumerate(classes)}
    splits = []
    for prefix in prefixes:
        part = [(path, size) for path, size in entries if path.startswith(prefix)]
        if prefix in unlabeled:
            found = [Entry(path, size, -1) for path, size in part]
        else:
            found = [Entry(path, size, number[_class(path, prefix)]) for path, size in part]
        task = "unlabeled" if prefix in unlabeled else "classification"
        splits.append(Split(name=prefix.rstrip("/"), task=task, entries=found))  # type: ignore[arg-type]  # narrowed str
    empty = tuple(sorted(name for name in folders if layout == "classes" and "/" not in name and name not in number))
    name = "split folders" if layout == "splits" else "class folders"
    return Listing(layout=name, classes=tuple(classes), splits=tuple(splits), ignored=ignored, empty=empty)


def _folder(path: str) -> str:
    return path.partition("/")[0] if "/" in path else ""


def _class(path: str, prefix: str) -> str:
    return path[len(prefix) :].partition("/")[0]


def _check_names(names: list[str]) -> None:
    """Classes and splits stand in the manifest, splits in file names too."""
    for name in names:
        if "\\" in name or name != name.encode("utf-8", "replace").decode():  # bytes that are no UTF-8
            raise DataError(f"the folder name {name!r} cannot name a class or split; rename it")


def _flat_splits(source: Path, entries: list[tuple[str, int]], prefixes: list[str]) -> set[str]:
    """Splits whose images lie right inside them, without class folders."""
    flat = set()
    for prefix in prefixes:
        paths = [path for path, _ in entries if path.startswith(prefix)]
        direct = [path for path in paths if "/" not in path[len(prefix) :]]
        if direct and len(direct) < len(paths):
            raise ConfigError(f"{source / direct[0]} lies beside class folders, so it has no class; move it")
        if direct:
            flat.add(prefix)
    return flat


def _walk(source: Path, *, by_name: bool) -> tuple[list[tuple[str, int]], Counter[str], list[str]]:
    """Images (path, size) sorted by path, other files by extension, and all folders."""
    images: list[tuple[str, int]] = []
    ignored: Counter[str] = Counter()
    folders: list[str] = []
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, around = waiting.pop()
        try:
            about = os.stat(source / folder)
            this = (about.st_dev, about.st_ino)
            if this in around:
                continue  # a link back to a folder that it lies in
            keys: dict[str, str] = {}
            with os.scandir(source / folder) as listing:
                for item in sorted(listing, key=lambda item: item.name):
                    if item.name.startswith("."):
                        continue
                    path = f"{folder}/{item.name}" if folder else item.name
                    if item.is_dir():
                        folders.append(path)
                        waiting.append((path, around | {this}))
                        continue
                    stem, dot, extension = item.name.rpartition(".")
                    if not stem or extension.lower() not in IMAGE_FIELDS:
                        ignored[dot + extension.lower() if stem else item.name] += 1
                        continue
                    images.append((path, _size(item, source / path)))
                    other = keys.setdefault(item.name if by_name else stem, path)
                    if other != path:
                        raise DataError(
                            f"{source / other} and {source / path} would share the key {stem!r}; "
                            "rename one, or keep extensions in keys (--keys name)"
                        )
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error
    images.sort()
    return images, ignored, folders


def _size(item: os.DirEntry[str], path: Path) -> int:
    size = item.stat().st_size
    if not size:
        raise DataError(f"{path} is empty (0 bytes); remove it or replace it")
    return size
