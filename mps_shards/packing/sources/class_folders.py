"""Folders of images: by class (``cat/x.jpg``), by split and class (``train/cat/x.jpg``), or flat and unlabelled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.file_tree import FileTree, check_names, is_image
from mps_shards.packing.sources.folder_names import names_files, split_names, split_word
from mps_shards.packing.sources.listing import Doubt, Entries, Entry, Listing, Split
from mps_shards.packing.sources.mask_folders import ONE_MASK, sample_folder
from mps_shards.wording import counted

__all__ = ["find_folders", "find_wrapper", "list_classes", "list_flat", "list_splits", "number_labels"]


def find_wrapper(tree: FileTree) -> str:
    """Return the only folder that holds images, with a slash, if the images are in folders inside it; else "".

    Such a folder appears when an archive is unpacked: ``data/`` in ``data/cat/x.jpg``.
    """
    if any(map(is_image, tree.names())):
        return ""
    held = _first_with_images(tree, tree.folders(), 2)
    if len(held) != 1 or split_names(held):
        return ""
    inside = f"{held[0]}/"
    if any(map(is_image, tree.names(inside))) or not _first_with_images(tree, tree.folders(inside), 1, inside):
        return ""
    return inside


def find_folders(tree: FileTree) -> Literal["classes", "splits", "flat"]:
    """Return the layout of a folder of images.

    The layout is "splits" if every folder with images is named like a split (train, test_set, seg_val …), "classes" if
    images are in folders, "flat" if images are at the top.
    """
    names = tree.names()
    folders = sorted(tree.folders(), key=lambda name: bool(split_names([name])))
    first = _first_with_images(tree, folders, 1)  # a folder that is not a split, if any
    if not first:
        return "flat"
    if any(map(is_image, names)):
        return "classes"
    if split_names(first):
        return "splits"
    # flowers_train and flowers_test: each alone could be a class
    few = tree.folders() if len(tree.folders()) <= 10 else []
    return "splits" if split_names(_first_with_images(tree, few, len(few))) else "classes"


def list_flat(tree: FileTree) -> Listing:
    """List every image below the folder, without labels."""
    entries = Entries(Entry(path, size) for path, size in tree.images())
    splits = [Split(name="", task="unlabeled", entries=entries)]
    return _listing(tree, "flat folder", (), splits, why="no folder names a class")


def list_classes(tree: FileTree) -> Listing:
    """List every image, with the first folder on its path as its class."""
    _refuse_stray(tree, "class")
    found: dict[str, int] = {}
    depths: dict[str, set[str]] = {}
    entries = _labelled(tree, "", found, depths)
    check_names(found)
    classes = tree.class_order(found)
    number_labels([entries], found, {name: place for place, name in enumerate(classes)})
    split = Split(name="", task="classification", entries=entries)
    return _listing(
        tree,
        "class folders",
        classes,
        [split],
        empty=tuple(sorted(set(tree.folders()) - {*found, *(path.partition("/")[0] for path in tree.packed)})),
        why=f"every image is in one of {counted(len(classes), 'folder')}",
        notes=tuple(_notes_on_order(tree, classes)),
        doubts=tuple(_doubts_of_classes(tree, classes, len(entries), depths)),
    )


def list_splits(tree: FileTree) -> Listing:
    """List every image, with the first folder on its path as split and the second as class; splits share classes.

    A split with all its images directly inside has no labels. A folder that only wraps the classes of a split, as in
    ``seg_train/seg_train/cat``, is skipped.
    """
    _refuse_stray(tree, "split")
    found: dict[str, int] = {}
    folders = [name for name in tree.folders() if tree.holds_images(name + "/")]
    names = split_names(folders) or {name: name for name in folders}
    splits, bare_splits = [], []
    for folder in folders:
        entries = _labelled(tree, _class_level(tree, folder), found, {})
        bare = np.flatnonzero(entries.labels < 0)
        if 0 < len(bare) < len(entries):
            first = tree.shown(entries[int(bare[0])].path)
            raise ConfigError(f"{first} is next to class folders and has no class; move it into a class folder")
        task: Literal["unlabeled", "classification"] = "unlabeled" if len(bare) else "classification"
        if task == "unlabeled":
            bare_splits.append(names[folder])
        splits.append(Split(name=names[folder], task=task, entries=entries))
    classes = tree.class_order(found)
    check_names([*classes, *(split.name for split in splits)])
    number_labels((split.entries for split in splits), found, {name: place for place, name in enumerate(classes)})
    notes = [f"the images of {', '.join(bare_splits)} are in no class folder and get no label"] if bare_splits else []
    renamed = [f"{folder} is split {name!r}" for folder, name in names.items() if folder != name]
    return _listing(
        tree,
        "split folders",
        classes,
        sorted(splits, key=lambda split: split.name),
        why="every folder with images is named like a split" + (f": {', '.join(renamed)}" if renamed else ""),
        notes=(*(notes if classes else ()), *_notes_on_order(tree, classes)),
        doubts=tuple(_doubts_of_splits(tree, classes, splits)),
    )


def number_labels(parts: Iterable[Entries], found: Mapping[str, int], numbers: Mapping[str, int]) -> None:
    """Replace labels, which were numbered in the order in which names were found, by class indices; -1 stays."""
    table = np.full(len(found) + 1, -1, np.int32)
    for name, place in found.items():
        table[place] = numbers[name]
    for entries in parts:
        labels = entries.labels
        labels[:] = table[labels]


def _labelled(tree: FileTree, prefix: str, found: dict[str, int], depths: dict[str, set[str]]) -> Entries:
    """Return entries labelled by their first folder below `prefix`; add the folders inside that folder to `depths`."""
    entries = Entries()
    start = len(prefix)
    for path, size in tree.images(prefix):
        name, nested, rest = path[start:].partition("/")
        entries.append(Entry(path, size, found.setdefault(name, len(found)) if nested else -1))
        inner, deeper, _ = rest.partition("/")
        if deeper and len(depths.setdefault(name, set())) < 50:
            depths[name].add(inner)
    return entries


def _class_level(tree: FileTree, split: str) -> str:
    """Return the folder whose folders are the classes of a split, with a slash: the split's own, or one inside it."""
    folder = f"{split}/"
    while not any(map(is_image, tree.names(folder))):
        held = _first_with_images(tree, tree.folders(folder), 2, folder)
        if len(held) != 1:
            break
        inside = f"{folder}{held[0]}/"
        is_wrapper = (
            held[0] == split or split_word(held[0]) or _first_with_images(tree, tree.folders(inside), 2, inside)
        )
        if not is_wrapper or (held[0] != split and any(map(is_image, tree.names(inside)))):
            break
        folder = inside
    return folder


def _first_with_images(tree: FileTree, folders: Sequence[str], most: int, prefix: str = "") -> list[str]:
    """Return the first `most` of these folders that hold images."""
    found: list[str] = []
    for name in folders:
        if len(found) == most:
            break
        if tree.holds_images(f"{prefix}{name}/"):
            found.append(name)
    return found


def _doubts_of_classes(
    tree: FileTree, classes: Sequence[str], images: int, depths: Mapping[str, set[str]]
) -> Iterator[Doubt]:
    splits = [name for name in classes if split_word(name)]
    if splits and len(splits) < len(classes):
        others = [name for name in classes if name not in splits]
        yield Doubt(
            f"{', '.join(splits[:3])} looks like a split, but is next to {', '.join(others[:3])}, so all would be "
            "classes",
            "move the folders that are not splits, or make each folder a class (--layout classes)",
        )
    if len(classes) == 1 and depths:
        inner = sorted(next(iter(depths.values())))
        yield Doubt(
            f"all images are in one class, {classes[0]}, although there are deeper folders ({', '.join(inner[:5])})",
            f"pack {tree.shown(classes[0])} to make these the classes, or keep one class (--layout classes)",
        )
    elif len(classes) == 1 and names_files(classes[0]):
        yield Doubt(
            f"all images are in one class, {classes[0]}, which does not look like a class",
            "pack the images without labels (--layout flat), or keep one class (--layout classes)",
        )
    yield from _doubts_of_depth(tree, classes, depths)
    yield from _doubts_of_case(classes, "classes")
    yield from too_many_classes(
        len(classes), images, "pack the images without labels (--layout flat)", "--layout classes"
    )


def _notes_on_order(tree: FileTree, classes: Sequence[str]) -> Iterator[str]:
    is_fixed = tree.options.numeric_order or tree.options.classes is not None
    are_numbers = bool(classes) and all(name.isdecimal() for name in classes)
    if are_numbers and not is_fixed and sorted(classes, key=int) != list(classes):
        shown = ", ".join(classes[:5])
        yield f"classes are numbers that are sorted as text ({shown}, ...); --numeric-order sorts them by value"


def _doubts_of_splits(tree: FileTree, classes: Sequence[str], splits: Sequence[Split]) -> Iterator[Doubt]:
    images = sum(len(split.entries) for split in splits if split.task == "classification")
    if len(classes) == 1 and images:
        deeper = sorted({name for split in tree.folders() for name in tree.folders(f"{split}/{classes[0]}")})
        if deeper:
            yield Doubt(
                f"all images are in one class, {classes[0]}, but there are deeper folders ({', '.join(deeper[:5])})",
                "move the folders up, or keep one class (--layout splits)",
            )
        elif names_files(classes[0]):
            yield Doubt(
                f"all images are in one class, {classes[0]}, which does not look like a class",
                "move the images up to have splits without labels, or keep one class (--layout splits)",
            )
    yield from _doubts_of_case(classes, "splits")
    yield from too_many_classes(
        len(classes), images, "pack the images without labels (--layout flat)", "--layout splits"
    )


def _doubts_of_depth(tree: FileTree, classes: Sequence[str], depths: Mapping[str, set[str]]) -> Iterator[Doubt]:
    """Yield doubts about classes whose images are in folders of folders."""
    if len(classes) > 1 and len(depths) == len(classes):
        inner_sets = [frozenset(depths[name]) for name in classes]
        if len(inner_sets[0]) > 1 and len(set(inner_sets)) == 1:
            inner = sorted(inner_sets[0])
            if sample := sample_folder(tree, classes[0]):
                yield Doubt(
                    f"each of the folders {', '.join(classes[:3])} holds one sample rather than a class: {sample}",
                    ONE_MASK,
                )
                return
            yield Doubt(
                f"each of the folders {', '.join(classes[:3])} holds the same folders ({', '.join(inner[:5])}), which "
                "look like the classes",
                "pack one of the folders, or make the outer folders the classes (--layout classes)",
            )
        elif max(map(len, inner_sets)) > 1 and not any(is_image(n) for each in classes for n in tree.names(f"{each}/")):
            inner = sorted(inner_sets[0])
            yield Doubt(
                f"the images are in folders of folders ({classes[0]}/{inner[0]} ...), and both levels could be classes",
                f"make the outer folders the classes (--layout classes: {', '.join(classes[:3])}), or move all inner "
                "folders into one folder",
            )
    elif len(classes) > 1 and (name := _only_deeper(tree, classes, depths)):
        inner = sorted(depths[name])
        yield Doubt(
            f"the images of {name} are in inner folders ({', '.join(inner[:5])}), but those of other classes are not",
            f"make {name} one class (--layout classes), or move the inner folders up to make them classes",
        )


def _only_deeper(tree: FileTree, classes: Sequence[str], depths: Mapping[str, set[str]]) -> str:
    """Return a class with all images in several inner folders, beside classes without them; "" for none."""
    if len(depths) == len(classes):
        return ""
    several = (name for name in classes if len(depths.get(name, ())) > 1)
    return next((name for name in several if not any(map(is_image, tree.names(f"{name}/")))), "")


def _doubts_of_case(classes: Sequence[str], layout: str) -> Iterator[Doubt]:
    spelled: dict[str, str] = {}
    for name in classes:
        if (other := spelled.setdefault(name.casefold(), name)) != name:
            yield Doubt(
                f"the classes {other!r} and {name!r} differ only in upper and lower case",
                f"rename one to make them one class, or keep two classes (--layout {layout})",
            )
            return


def too_many_classes(classes: int, images: int, otherwise: str, accepts: str) -> Iterator[Doubt]:
    """Yield a doubt if labels hardly repeat, since they may be names of images rather than of classes.

    Args:
        otherwise: what to do if the labels are not classes.
        accepts: option that makes each label a class.
    """
    if classes >= 5 and classes * 5 >= images * 4:
        yield Doubt(
            f"{images:,} images have {classes:,} different labels, so hardly two share a class",
            f"{otherwise}, or make each label a class ({accepts})",
        )


def _refuse_stray(tree: FileTree, lacking: str) -> None:
    stray = [name for name in tree.names() if is_image(name)]
    if stray:
        others = f" and {counted(len(stray) - 1, 'other image')} are" if len(stray) > 1 else " is"
        raise ConfigError(
            f"{tree.shown(stray[0])}{others} next to folders of images, without a {lacking}; move "
            f"{'them' if len(stray) > 1 else 'it'}, or pack all images without labels (--layout flat)"
        )


def _listing(tree: FileTree, layout: str, classes: Sequence[str], splits: Sequence[Split], **about: object) -> Listing:
    if not any(len(split.entries) for split in splits):
        raise tree.no_images()
    return Listing(
        layout=layout,
        classes=tuple(classes),
        splits=tuple(splits),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
        labels_from="the names of folders" if classes else "",
        **about,  # type: ignore[arg-type]  # fields of the listing
    )
