"""Detection of the layout of a tree of files, and the listing of the tree by its layout."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.annotation_files import (
    doubts_about_annotations,
    doubts_about_unread,
    labelling_lists,
    refuse_foreign_annotations,
)
from mps_shards.packing.sources.cityscapes import is_cityscapes, list_cityscapes
from mps_shards.packing.sources.class_folders import find_folders, find_wrapper, list_classes, list_flat, list_splits
from mps_shards.packing.sources.coco import is_coco, list_coco
from mps_shards.packing.sources.file_tree import FileTree, refusal
from mps_shards.packing.sources.image_folder_metadata import list_metadata, metadata_in
from mps_shards.packing.sources.image_mask_pairs import has_paired_siblings, has_pairs, list_pairs
from mps_shards.packing.sources.known_trees import is_imagenet, is_pets, known_pairs, list_imagenet, list_pets
from mps_shards.packing.sources.list_table import list_table, lists_in
from mps_shards.packing.sources.listing import Doubt, Listing
from mps_shards.packing.sources.mask_folders import IMAGE_FOLDERS
from mps_shards.packing.sources.voc import is_voc, list_voc

__all__ = ["list_tree"]

_LISTERS: Mapping[str, Callable[[FileTree], Listing]] = {
    "classes": list_classes,
    "splits": list_splits,
    "flat": list_flat,
    "metadata": list_metadata,
    "pairs": list_pairs,
    "voc": list_voc,
    "cityscapes": list_cityscapes,
    "coco": list_coco,
    "pets": list_pets,
    "imagenet": list_imagenet,
}
# Each layout has its own marks, so at most one should fit; a tree without marks is a folder of images.
_MARKS: Mapping[str, Callable[[FileTree], object]] = {
    "metadata": metadata_in,
    "pairs": has_pairs,
    "voc": is_voc,
    "cityscapes": is_cityscapes,
    "coco": is_coco,
    "imagenet": is_imagenet,
}
_DEEPEST = 4  # largest number of nested folders that only wrap the images


def list_tree(tree: FileTree, *, list_name: str = "") -> Listing:
    """List the images of a tree, or those that a list in it names.

    "auto" takes the one layout whose marks the tree shows: metadata files, or the folders of image and mask pairs,
    Pascal VOC, Cityscapes or COCO. A tree without marks has split, class or flat folders. If all images are in one
    folder of folders, that folder is taken as the source.

    Args:
        list_name: path of the list; "" to read the tree itself.

    Raises:
        ConfigError: there are no images, or the folders fit no layout or several layouts.
        DataError: a file cannot be packed, or two files would share a key; the error names them.
        StorageError: a file or folder cannot be read.
    """
    listing = _listed(tree, list_name)
    if tree.options.layout not in ("auto", "list"):
        listing = replace(listing, doubts=tuple(doubt for doubt in listing.doubts if doubt.about != "layout"))
    listing = replace(listing, annotations=tuple(dict.fromkeys(tree.annotations)))
    if tree.packed:
        held = ", ".join(path.removesuffix("/") for path in tree.packed[:3])
        note = f"{held} {'is a shard set and is' if len(tree.packed) == 1 else 'are shard sets and are'} left out"
        listing = replace(listing, notes=(*listing.notes, note))
    if nameless := tree.nameless_images():
        doubt = Doubt(
            f"{nameless[0]} begins like an image, but has no extension, so this file and others like it are left out",
            "give these files an extension (.jpg)",
            "content",
        )
        listing = replace(listing, doubts=(*listing.doubts, doubt))
    listing = replace(listing, doubts=(*listing.doubts, *doubts_about_unread(tree)))
    error = refusal(listing.bad)
    if error is not None and not tree.options.skip_bad:
        raise error
    return listing


def _listed(tree: FileTree, list_name: str) -> Listing:
    layout = tree.options.layout
    if list_name:
        if layout not in ("auto", "list"):
            raise ConfigError(f"{tree.shown(list_name)} is a list; pack the folder to read it as {layout!r}")
        return list_table(tree, {list_name: ""})
    if tree.options.images is not None:
        return list_pairs(tree)
    if layout == "list":
        return list_table(tree, {_only_list(tree): ""})
    if layout != "auto":
        return _LISTERS[layout](tree)
    root, folder = tree, ""
    around: list[tuple[str, FileTree]] = []
    for _ in range(_DEEPEST):
        found = _detect(tree)
        inside = find_wrapper(tree) if found in ("classes", "splits", "flat") else ""
        if not inside:
            break
        refuse_foreign_annotations(tree)
        tree.ignore_beside(inside)
        around.append((folder, tree))
        folder, tree = folder + inside, tree.below(inside)
    listing = _understood(tree, found)
    if len(listing.classes) == 1 and listing.classes[0].lower() in IMAGE_FOLDERS:
        raise ConfigError(
            f"the only class folder in {tree.files.name} is {listing.classes[0]}, which does not look like a class; "
            "put masks into masks/ next to it, or pack the images without labels (--layout flat)"
        )
    return _with_outer_files(root, _below(listing, folder), [*around, (folder, tree)]) if folder else listing


def _with_outer_files(root: FileTree, listing: Listing, trees: Sequence[tuple[str, FileTree]]) -> Listing:
    """Return the listing with the files that lie in the folders around the images; the last tree holds the images."""
    doubts = [doubt for _, tree in trees[:-1] for doubt in doubts_about_annotations(tree, listing)]
    root.annotations = [folder + path for folder, tree in trees for path in tree.annotations]
    root.packed = [folder + path for folder, tree in trees for path in tree.packed]
    root.bare = [folder + path for folder, tree in trees for path in tree.bare]
    root.unread = [folder + path for folder, tree in trees for path in tree.unread]
    ignored = sum((tree.ignored for _, tree in trees), Counter[str]())
    return replace(listing, ignored=ignored, doubts=(*listing.doubts, *doubts))


def _understood(tree: FileTree, found: str) -> Listing:
    """List a folder. Its labels come from a list in the folder if the names of its folders give none."""
    if found == "pairs":
        return known_pairs(tree, list_pairs(tree))
    if found not in ("classes", "splits", "flat"):
        return _LISTERS[found](tree)
    refuse_foreign_annotations(tree)
    listing = _LISTERS[found](tree)
    if len(listing.classes) < 2 and (lists := labelling_lists(tree)):
        tree.bad.clear()
        table = list_table(tree, lists)
        name = ", ".join(lists)
        images = sum(len(split.entries) for split in listing.splits)
        named = sum(1 + bool(entry.mask) for split in table.splits for entry in split.entries)
        note = f"{name} names the images and gives their labels; mps-shards pack {tree.shown(name)} gives the same set"
        if len(lists) > 1:
            note = f"{name} name the images of the splits and give their labels"
        return replace(table, unnamed=max(0, images - named), notes=(note, *table.notes))
    return replace(listing, doubts=(*listing.doubts, *doubts_about_annotations(tree, listing)))


def _below(listing: Listing, folder: str) -> Listing:
    """Convert the listing of a folder into a listing of the tree around that folder."""
    splits = tuple(replace(split, entries=split.entries.below(folder)) for split in listing.splits)
    bad = tuple(each._replace(path=folder + each.path) for each in listing.bad)
    note = f"{folder.removesuffix('/')} holds all images, so it was taken as the source"
    return replace(listing, splits=splits, bad=bad, notes=(note, *listing.notes))


def _detect(tree: FileTree) -> str:
    if is_pets(tree):  # before the pairs, because its folders look like pairs
        return "pets"
    fitting = [layout for layout, has_mark in _MARKS.items() if has_mark(tree)]
    if len(fitting) > 1:
        layouts = " or as ".join(map(repr, fitting))
        raise ConfigError(f"{tree.files.name} could be read as {layouts}; choose one with --layout")
    if fitting:
        return fitting[0]
    return "pairs" if has_paired_siblings(tree) else find_folders(tree)


def _only_list(tree: FileTree) -> str:
    names = lists_in(tree)
    if len(names) != 1:
        held = ", ".join(names) or "none"
        raise ConfigError(f"{tree.files.name} must hold one list, not {len(names)} ({held}); name the file itself")
    return names[0]
