"""Images with masks: in two folders (``images/x.jpg``, ``masks/x.png``), or by suffix (``x.jpg``, ``x_mask.png``)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.file_tree import SPLIT_NAMES, FileTree, is_image, read_classes
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["IMAGE_FOLDERS", "has_pairs", "list_pairs"]

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentations", "gt")
SUFFIXES = ("_mask", ".mask", "-mask", "_seg", "_segmentation", "_label", "_labels", "_gt")
UNLABELED = ("test", "testing")  # splits that are often published without masks


class _Group(NamedTuple):
    """The images and masks of one split; folders end with a slash, and are the same where suffixes tell."""

    split: str
    images: str
    masks: str


def has_pairs(tree: FileTree) -> bool:
    """Whether there are a folder of images and one of masks, or an image with a mask beside it in the first folder."""
    return bool(_folders(tree) or _by_suffix(tree))


def list_pairs(tree: FileTree) -> Listing:
    """Every image with its mask, whose name is the image's, with or without a suffix such as ``_mask``.

    Two folders may hold splits (``images/train``, ``masks/train``) or lie in them (``train/images``, ``train/masks``).
    A test split may lack masks. A ``classes.txt``, one name a line, names the label ids from 0 up. The names of all
    masks of a split are held in memory.

    Raises:
        ConfigError: no such folders, and no such suffixes.
        DataError: naming an image without mask, a mask without image, or two masks of one image.
    """
    groups = _folders(tree) or _by_suffix(tree)
    if not groups:
        raise ConfigError(
            f"{tree.files.name} holds no pairs: put images into images/ and masks of the same names into masks/, or "
            f"name the mask of x.jpg x_mask.png"
        )
    splits = []
    for group in groups:
        unlabeled = group.split.lower() in UNLABELED and not any(_image_files(tree, group.masks))
        entries = Entries(_unlabeled(tree, group) if unlabeled else _paired(tree, group))
        if len(entries):
            task = "unlabeled" if unlabeled else "segmentation"
            splits.append(Split(name=group.split, task=task, entries=entries))  # type: ignore[arg-type]  # narrowed
    if not splits:
        raise tree.no_images()
    return Listing(
        layout="image and mask pairs",
        classes=read_classes(tree),
        splits=tuple(splits),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
    )


def _folders(tree: FileTree) -> list[_Group]:
    """Splits inside the two folders, or the two folders inside splits."""
    both = _both(tree, "")
    if both:
        images, masks = both
        splits = tree.folders(images)
        if splits and all(name.lower() in SPLIT_NAMES for name in splits) and not _images_in(tree, images):
            return [_Group(name, f"{images}{name}/", f"{masks}{name}/") for name in splits]
        return [_Group("", images, masks)]
    tops = [name for name in tree.folders() if name.lower() in SPLIT_NAMES]
    inside = [(name, _both(tree, f"{name}/")) for name in tops]
    if not any(both for _, both in inside):
        return []
    return [_Group(name, *(both or (f"{name}/", f"{name}/{MASK_FOLDERS[0]}/"))) for name, both in inside]


def _both(tree: FileTree, prefix: str) -> tuple[str, str] | None:
    """The folder of images and that of masks right inside a folder."""
    found = [[n for n in tree.folders(prefix) if n.lower() in known] for known in (IMAGE_FOLDERS, MASK_FOLDERS)]
    images, masks = ([f"{prefix}{n}/" for n in names if tree.holds_images(f"{prefix}{n}/")] for names in found)
    if not images or not masks:
        return None
    for several in (images, masks):
        if len(several) > 1:
            raise ConfigError(f"{' and '.join(map(tree.shown, several))} could both be meant; rename one")
    return images[0], masks[0]


def _images_in(tree: FileTree, folder: str) -> list[str]:
    return [name for name in tree.names(folder) if is_image(name)]


def _by_suffix(tree: FileTree) -> list[_Group]:
    """Splits where the first folder with images holds an image and its mask."""
    first = next((path for path in tree.paths() if is_image(path)), None)
    if first is None:
        return []
    stems = {name.rpartition(".")[0] for name in _images_in(tree, first[: first.rfind("/") + 1])}
    if not any(_without_suffix(stem) in stems for stem in stems if _is_mask(stem)):
        return []
    tops = tree.folders()
    if tops and all(name.lower() in SPLIT_NAMES for name in tops) and not _images_in(tree, ""):
        return [_Group(name, f"{name}/", f"{name}/") for name in tops]
    return [_Group("", "", "")]


def _is_mask(stem: str) -> bool:
    return stem.endswith(SUFFIXES)


def _without_suffix(stem: str) -> str:
    return next((stem.removesuffix(suffix) for suffix in SUFFIXES if stem.endswith(suffix)), stem)


def _unlabeled(tree: FileTree, group: _Group) -> Iterator[Entry]:
    return (Entry(path, size) for path, size in tree.images(group.images))


def _paired(tree: FileTree, group: _Group) -> Iterator[Entry]:
    mixed = group.images == group.masks
    masks: dict[str, str] = {}
    for path in _image_files(tree, group.masks):
        stem = path[len(group.masks) :].rpartition(".")[0]
        if not mixed or _is_mask(stem):
            other = masks.setdefault(stem, path)
            if other != path:
                raise DataError(f"{tree.shown(other)} and {path} would be masks of the same image; remove one")
    paths = tree.image_paths(group.images)
    if mixed:
        paths = (path for path in paths if not _is_mask(path.rpartition(".")[0]))
    for path, size in tree.sized(paths):
        stem = path[len(group.images) :].rpartition(".")[0]
        mask = next((masks.pop(stem + suffix) for suffix in ("", *SUFFIXES) if stem + suffix in masks), None)
        if mask is None:
            where = f"beside it ({stem}_mask.png)" if mixed else f"in {tree.shown(group.masks)} ({stem}.png)"
            tree.leave_out(path, f"{tree.shown(path)} has no mask {where}; add it, or remove the image")
        elif tree.size(mask):
            yield Entry(path, size, mask=mask)
    for mask in masks.values():
        tree.leave_out(mask, f"{tree.shown(mask)} is the mask of no image; add the image, or remove the mask")


def _image_files(tree: FileTree, folder: str) -> Iterable[str]:
    return (path for path in tree.paths(folder) if is_image(path)) if tree.files.is_folder(folder) else ()
