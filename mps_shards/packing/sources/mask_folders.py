"""Recognition of folders that hold images, and of the sibling folders that hold the masks of these images."""

import io
import posixpath
import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from mps_shards.errors import ShardsError
from mps_shards.packing.sources.file_tree import FileTree, is_image
from mps_shards.wording import counted

__all__ = [
    "IMAGE_FOLDERS",
    "IMAGE_SUFFIXES",
    "MASK_FOLDERS",
    "ONE_MASK",
    "SUFFIXES",
    "FolderPair",
    "masks_of_one_image",
    "paired_folders",
    "sample_folder",
    "without_image_suffix",
]

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation", "gt"),
    *("ann_dir", "groundtruth", "ground_truth", "labelmaps", "label_maps", "trimaps", "annot", "seg"),
)
SUFFIXES = (
    *("_mask", ".mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_labels", "_gt", "_groundtruth"),
    *("_annotation", "_labelids", "_l", "_lab", "_manual1"),
)
IMAGE_SUFFIXES = ("_sat", "_image", "_img", "_rgb", "_leftimg8bit", "_training")
# words in the name of a folder of masks: train_masks, trainannot, ISIC2018_Task1_Training_GroundTruth
_MASK_WORDS = ("mask", "annot", "label", "segment", "groundtruth", "ground_truth", "_gt", "gt_", "trimap", "ann_dir")
_MASK_NAMES = frozenset(
    ["gt", "seg", "ann", "anns", "y", "targets", "target", "outputs", "labelstr", "1st_manual", *MASK_FOLDERS]
)
_NUMBER = re.compile(r"[-_. ]")  # separates the name of an image from the number of one of its masks
ONE_MASK = (
    "a sample has one label map, so merge the masks of each image into one (images/x.png, masks/x.png), or pack COCO "
    "annotations, from which label maps are drawn (--layout coco)"
)
_MOST_FOLDERS = 16  # more sibling folders are classes
_LOOKED_AT = 4  # images whose masks are searched, and masks that are decoded
_MOST_IDS = 64  # different values in a label map; photographs have more


class FolderPair(NamedTuple):
    """Two sibling folders, one with images and one with their masks; without slashes.

    Attributes:
        is_sure: whether the name of the second folder says that it holds masks.
    """

    images: str
    masks: str
    is_sure: bool


def paired_folders(tree: FileTree, prefix: str = "") -> list[FolderPair]:
    """Return pairs of folders in `prefix` whose files have equal names and one of which holds label maps."""
    folders = tree.folders(prefix)
    if not 2 <= len(folders) <= _MOST_FOLDERS:
        return []
    firsts = {
        name: held
        for name in folders
        if (held := list(islice(filter(is_image, tree.paths(f"{prefix}{name}/")), _LOOKED_AT)))
    }
    pairs: list[FolderPair] = []
    taken: set[str] = set()
    for masks, held in firsts.items():
        if masks in taken or not _could_be_masks(masks, held):
            continue
        for images in sorted(firsts, key=lambda name: not masks.lower().startswith(name.lower())):
            if images in (masks, *taken) or _names_masks(images) > _names_masks(masks):
                continue
            if not _fits(tree, firsts[images], f"{prefix}{images}/", f"{prefix}{masks}/"):
                continue
            named = _names_masks(masks)
            are_maps = _are_label_maps(tree, held) and (named or not _are_label_maps(tree, firsts[images]))
            if are_maps or (named and _are_label_maps(tree, held, coloured=True)):
                pairs.append(FolderPair(images, masks, named))
                taken |= {images, masks}
                break
    return pairs


def sample_folder(tree: FileTree, folder: str) -> str:
    """Return a text about a folder with one image and its masks, each in its own folder; "" for other folders."""
    held = tree.folders(folder)
    images, masks = ([n for n in held if n.lower() in known] for known in (IMAGE_FOLDERS, MASK_FOLDERS))
    if len(images) != 1 or len(masks) != 1:
        return ""
    count = len(tree.stems(f"{folder}/{masks[0]}/"))
    if len(tree.stems(f"{folder}/{images[0]}/")) != 1 or not count:
        return ""
    return f"{folder}/{masks[0]} has {counted(count, 'mask')} of the image in {folder}/{images[0]}"


def masks_of_one_image(images: Iterable[str], masks: Iterable[str]) -> tuple[str, list[str]] | None:
    """Return the first of these images to which several masks could belong, and the masks; None if there is none.

    Args:
        images: paths without extension, in the folder of images, of the images that have no mask.
        masks: paths without extension, in the folder of masks, of the masks that have no image.
    """
    names = set(images)
    found: dict[str, list[str]] = {}
    for mask in masks:
        folder = mask.rpartition("/")[0]
        parts = [mask[: match.start()] for match in _NUMBER.finditer(mask)]  # cell_1_02 is mask 02 of cell_1
        owner = next((each for each in (folder, *reversed(parts)) if each in names), None)
        if owner is not None:
            found.setdefault(owner, []).append(mask)
    return next(((owner, held) for owner, held in found.items() if len(held) > 1), None)


def without_image_suffix(stem: str) -> str:
    """Return the name that an image shares with its mask: ``104`` for ``104_sat`` with the mask ``104_mask``."""
    return next((stem[: -len(suffix)] for suffix in IMAGE_SUFFIXES if stem.lower().endswith(suffix)), stem)


def _names_masks(folder: str) -> bool:
    name = folder.lower()
    return name in _MASK_NAMES or any(word in name for word in _MASK_WORDS)


def _could_be_masks(folder: str, paths: list[str]) -> bool:
    """Whether the files can be masks. JPEG loses label ids, so JPEGs are masks only if the folder name says so."""
    return _names_masks(folder) or not all(path.lower().endswith((".jpg", ".jpeg", ".jfif")) for path in paths)


def _fits(tree: FileTree, images: list[str], image_folder: str, mask_folder: str) -> bool:
    """Whether the first images have masks with their names."""
    for path in images:
        stem = path[len(image_folder) :].rpartition(".")[0]
        folder, _, name = stem.rpartition("/")
        bases = (name, without_image_suffix(name))
        inside = posixpath.join(mask_folder, folder) if folder else mask_folder.removesuffix("/")
        if not tree.files.is_folder(inside):
            return False
        stems = tree.stems(inside + "/")
        if not any(each.startswith(bases) and _is_mask_of(each, bases) for each in stems):
            return False
    return True


def _is_mask_of(stem: str, bases: tuple[str, ...]) -> bool:
    return any(stem == base or (stem.startswith(base) and stem[len(base) :].lower() in SUFFIXES) for base in bases)


def _are_label_maps(tree: FileTree, paths: list[str], *, coloured: bool = False) -> bool:
    """Whether these images have one channel, and few different values; or, `coloured`, few different colours."""
    modes = ("RGB", "RGBA") if coloured else ("1", "L", "P", "I", "I;16")
    for path in paths:
        try:
            with Image.open(io.BytesIO(tree.files.read(path))) as image:
                if image.mode not in modes or image.format == "JPEG":
                    return False
                if image.width * image.height > 50_000_000 or not _has_few_values(image):
                    return False
        except (ShardsError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False
    return bool(paths)


def _has_few_values(image: Image.Image) -> bool:
    if image.mode in ("RGB", "RGBA"):
        return image.getcolors(_MOST_IDS) is not None
    return len(np.unique(np.asarray(image))) <= _MOST_IDS
