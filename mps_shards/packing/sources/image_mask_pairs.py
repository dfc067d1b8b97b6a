"""Images with masks: in two folders (``images/x.jpg``, ``masks/x.png``), or by suffix (``x.jpg``, ``x_mask.png``)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source_tree import SPLIT_NAMES, Source, is_image, read_classes

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


def has_pairs(source: Source) -> bool:
    """Whether there are a folder of images and one of masks, or an image with a mask beside it in the first folder."""
    return bool(_folders(source) or _by_suffix(source))


def list_pairs(source: Source) -> Listing:
    """Every image with its mask, whose name is the image's, with or without a suffix such as ``_mask``.

    Two folders may hold splits (``images/train``, ``masks/train``) or lie in them (``train/images``, ``train/masks``).
    A test split may lack masks. A ``classes.txt``, one name a line, names the label ids from 0 up. The names of all
    masks of a split are held in memory.

    Raises:
        ConfigError: no such folders, and no such suffixes.
        DataError: naming an image without mask, a mask without image, or two masks of one image.
    """
    groups = _folders(source) or _by_suffix(source)
    if not groups:
        raise ConfigError(
            f"{source.folder} holds no pairs: put images into images/ and masks of the same names into masks/, or name "
            f"the mask of x.jpg x_mask.png"
        )
    splits = []
    for group in groups:
        unlabeled = group.split.lower() in UNLABELED and not any(_image_files(source, group.masks))
        entries = Entries(_unlabeled(source, group) if unlabeled else _paired(source, group))
        if len(entries):
            task = "unlabeled" if unlabeled else "segmentation"
            splits.append(Split(name=group.split, task=task, entries=entries))  # type: ignore[arg-type]  # narrowed
    if not splits:
        raise source.no_images()
    return Listing(
        layout="image and mask pairs",
        classes=read_classes(source.folder),
        splits=tuple(splits),
        ignored=source.ignored,
        bad=tuple(source.bad),
    )


def _folders(source: Source) -> list[_Group]:
    """Splits inside the two folders, or the two folders inside splits."""
    both = _both(source, "")
    if both:
        images, masks = both
        splits = source.folders(images)
        if splits and all(name.lower() in SPLIT_NAMES for name in splits) and not _images_in(source, images):
            return [_Group(name, f"{images}{name}/", f"{masks}{name}/") for name in splits]
        return [_Group("", images, masks)]
    tops = [name for name in source.folders() if name.lower() in SPLIT_NAMES]
    inside = [(name, _both(source, f"{name}/")) for name in tops]
    if not any(both for _, both in inside):
        return []
    return [_Group(name, *(both or (f"{name}/", f"{name}/{MASK_FOLDERS[0]}/"))) for name, both in inside]


def _both(source: Source, prefix: str) -> tuple[str, str] | None:
    """The folder of images and that of masks right inside a folder."""
    found = [[n for n in source.folders(prefix) if n.lower() in known] for known in (IMAGE_FOLDERS, MASK_FOLDERS)]
    images, masks = ([f"{prefix}{n}/" for n in names if source.holds_images(f"{prefix}{n}/")] for names in found)
    if not images or not masks:
        return None
    for several in (images, masks):
        if len(several) > 1:
            raise ConfigError(
                f"{' and '.join(str(source.folder / n) for n in several)} could both be meant; rename one"
            )
    return images[0], masks[0]


def _images_in(source: Source, folder: str) -> list[str]:
    return [name for name in source.names(folder) if is_image(name)]


def _by_suffix(source: Source) -> list[_Group]:
    """Splits where the first folder with images holds an image and its mask."""
    first = next((path for path in source.files() if is_image(path)), None)
    if first is None:
        return []
    stems = {name.rpartition(".")[0] for name in _images_in(source, first[: first.rfind("/") + 1])}
    if not any(_without_suffix(stem) in stems for stem in stems if _is_mask(stem)):
        return []
    tops = source.folders()
    if tops and all(name.lower() in SPLIT_NAMES for name in tops) and not _images_in(source, ""):
        return [_Group(name, f"{name}/", f"{name}/") for name in tops]
    return [_Group("", "", "")]


def _is_mask(stem: str) -> bool:
    return stem.endswith(SUFFIXES)


def _without_suffix(stem: str) -> str:
    return next((stem.removesuffix(suffix) for suffix in SUFFIXES if stem.endswith(suffix)), stem)


def _unlabeled(source: Source, group: _Group) -> Iterator[Entry]:
    return (Entry(path, size) for path, size in source.images(group.images))


def _paired(source: Source, group: _Group) -> Iterator[Entry]:
    mixed = group.images == group.masks
    masks: dict[str, str] = {}
    for path in _image_files(source, group.masks):
        stem = path[len(group.masks) :].rpartition(".")[0]
        if not mixed or _is_mask(stem):
            other = masks.setdefault(stem, path)
            if other != path:
                raise DataError(f"{source.folder / other} and {path} would be masks of the same image; remove one")
    paths = source.image_paths(group.images)
    if mixed:
        paths = (path for path in paths if not _is_mask(path.rpartition(".")[0]))
    for path, size in source.sized(paths):
        stem = path[len(group.images) :].rpartition(".")[0]
        mask = next((masks.pop(stem + suffix) for suffix in ("", *SUFFIXES) if stem + suffix in masks), None)
        if mask is None:
            where = f"beside it ({stem}_mask.png)" if mixed else f"in {source.folder / group.masks} ({stem}.png)"
            source.leave_out(path, f"{source.folder / path} has no mask {where}; add it, or remove the image")
        elif source.size(mask):
            yield Entry(path, size, mask=mask)
    for mask in masks.values():
        source.leave_out(mask, f"{source.folder / mask} is the mask of no image; add the image, or remove the mask")


def _image_files(source: Source, folder: str) -> Iterable[str]:
    return (path for path in source.files(folder) if is_image(path)) if (source.folder / folder).is_dir() else ()
