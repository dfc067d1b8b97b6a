"""Which layout a source has, and its listing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.sources import Layout
from mps_shards.packing.sources.cityscapes import is_cityscapes, list_cityscapes
from mps_shards.packing.sources.class_folders import find_folders, list_classes, list_flat, list_splits
from mps_shards.packing.sources.coco import is_coco, list_coco
from mps_shards.packing.sources.image_folder_metadata import list_metadata, metadata_in
from mps_shards.packing.sources.image_mask_pairs import IMAGE_FOLDERS, has_pairs, list_pairs
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES
from mps_shards.packing.sources.list_table import list_table, lists_in
from mps_shards.packing.sources.listing import Listing
from mps_shards.packing.sources.source_tree import Source
from mps_shards.packing.sources.voc import is_voc, list_voc

__all__ = ["list_source", "source_folder"]

_LISTERS: Mapping[str, Callable[[Source], Listing]] = {
    "classes": list_classes,
    "splits": list_splits,
    "flat": list_flat,
    "metadata": list_metadata,
    "pairs": list_pairs,
    "voc": list_voc,
    "cityscapes": list_cityscapes,
    "coco": list_coco,
}
# Told by their own marks, so at most one should fit; without any it is a folder of images.
_MARKS: Mapping[str, Callable[[Source], object]] = {
    "metadata": metadata_in,
    "pairs": has_pairs,
    "voc": is_voc,
    "cityscapes": is_cityscapes,
    "coco": is_coco,
}


def source_folder(source: Path) -> Path:
    """The folder that paths of a listing are relative to: the source, or what a list lies in.

    Raises:
        StorageError: it is neither.
    """
    if source.is_dir():
        return source
    if source.exists() and source.suffix.lower() in LIST_SUFFIXES:
        return source.parent
    kinds = f"not a directory, and no list ({', '.join(LIST_SUFFIXES)})"
    raise StorageError(f"{source}: {kinds if source.exists() else 'no such directory'}")


def list_source(source: Path, *, layout: Layout = "auto", by_name: bool = False, skip_bad: bool = False) -> Listing:
    """List the images of a folder, or those that a list names.

    "auto" takes a file for a list, and a folder for the one layout whose marks it shows: metadata files, or the folders
    of image and mask pairs, Pascal VOC, Cityscapes or COCO. Without any mark it is split, class or flat folders.

    Args:
        by_name: keys will hold file extensions, so ``a.jpg`` may lie beside ``a.png``.
        skip_bad: note in the listing what cannot be packed, and go on; else it is an error.

    Raises:
        ConfigError: no images, an arrangement that fits no layout, or one that fits several.
        DataError: naming a file that cannot be packed, or two that would share a key.
        StorageError: something cannot be read.
    """
    if layout not in get_args(Layout):
        raise ConfigError(f"layout {layout!r} is none of {', '.join(get_args(Layout))}")
    folder = source_folder(source)
    found = Source(folder=folder, by_name=by_name, skip_bad=skip_bad)
    if folder != source:
        if layout not in ("auto", "list"):
            raise ConfigError(f"{source} is a list; pack the folder to read it as {layout!r}")
        return list_table(found, source.name)
    if layout == "list":
        return list_table(found, _only_list(found))
    if layout != "auto":
        return _LISTERS[layout](found)
    listing = _LISTERS[_find(found)](found)
    if len(listing.classes) == 1 and listing.classes[0].lower() in IMAGE_FOLDERS:
        raise ConfigError(
            f"the only class folder in {source} is {listing.classes[0]}, which is no class; put masks beside it into "
            "masks/, or pack the images alone with layout 'flat'"
        )
    return listing


def _find(source: Source) -> str:
    fitting = [layout for layout, marked in _MARKS.items() if marked(source)]
    if len(fitting) > 1:
        raise ConfigError(
            f"{source.folder} could be read as {' or as '.join(map(repr, fitting))}; name one with layout (--layout)"
        )
    return fitting[0] if fitting else find_folders(source)


def _only_list(source: Source) -> str:
    names = lists_in(source)
    if len(names) != 1:
        held = ", ".join(names) or "none"
        raise ConfigError(f"{source.folder} must hold one list, not {len(names)} ({held}); name the file itself")
    return names[0]
