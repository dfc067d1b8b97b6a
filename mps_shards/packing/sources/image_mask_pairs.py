"""Images with masks: in two folders (``images/x.jpg``, ``masks/x.png``), or by suffix (``x.jpg``, ``x_mask.png``)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.file_tree import FileTree, is_image, read_classes, refusal
from mps_shards.packing.sources.folder_names import split_names
from mps_shards.packing.sources.listing import Doubt, Entries, Entry, Listing, Split
from mps_shards.packing.sources.mask_folders import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    ONE_MASK,
    SUFFIXES,
    masks_of_one_image,
    paired_folders,
    without_image_suffix,
)

__all__ = ["has_paired_siblings", "has_pairs", "list_pairs"]

UNLABELED = ("test", "testing")  # splits that may be published without masks


class _Group(NamedTuple):
    """The images and masks of one split; folders end with a slash, and are the same if suffixes tell them apart."""

    split: str
    images: str
    masks: str
    is_sure: bool = True


def has_pairs(tree: FileTree) -> bool:
    """Whether there are folders of images and of masks, or an image with a mask next to it in the first folder."""
    return bool(_folders(tree) or _by_suffix(tree))


def has_paired_siblings(tree: FileTree) -> bool:
    """Whether some folders hold label maps with the names of images in other folders."""
    return bool(_siblings(tree))


def list_pairs(tree: FileTree) -> Listing:
    """List every image with its mask, which has the name of the image, with or without a suffix such as ``_mask``.

    Two folders may hold splits (``images/train``, ``masks/train``), be in splits (``train/images``, ``train/masks``),
    or be splits themselves (``train``, ``trainannot``). A test split may lack masks. A ``classes.txt``, one name per
    line, names the label ids from 0 up. The names of all masks of a split are held in memory.

    Raises:
        ConfigError: there are neither such folders nor such suffixes.
        DataError: an image has two masks, or two images would share a key.
    """
    if "{id}" in f"{tree.options.images}{tree.options.masks}":
        return _by_pattern(tree)
    groups = _groups(tree)
    if not groups:
        raise ConfigError(
            f"{tree.files.name} holds no pairs: put images into images/ and masks of the same names into masks/, name "
            "the mask of x.jpg x_mask.png, or say where they are (--images, --masks)"
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
    first = groups[0]
    masks = "next to them, by suffix" if first.images == first.masks else f"in {first.masks}"
    return Listing(
        layout="image and mask pairs",
        classes=read_classes(tree),
        splits=tuple(sorted(splits, key=lambda split: split.name)),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
        why=f"images in {first.images or 'the folder'} have masks of the same names {masks}",
        labels_from="masks",
        doubts=tuple(_doubt(group) for group in groups[:1] if not group.is_sure),
    )


def _by_pattern(tree: FileTree) -> Listing:
    """List pairs by patterns such as ``images/{id}.jpg`` and ``masks/{id}_mask.png``."""
    images, masks = tree.options.images or "", tree.options.masks or ""
    head, tail = images.split("{id}")
    folder = head[: head.rfind("/") + 1]
    entries = Entries()
    for path, size in tree.images(folder) if tree.files.is_folder(folder) else ():
        if path.startswith(head) and path.endswith(tail) and len(path) > len(head) + len(tail):
            mask = masks.replace("{id}", path[len(head) : len(path) - len(tail)])
            if tree.size(mask, named_by=tree.shown(path)):
                entries.append(Entry(path, size, mask=mask))
    if not len(entries):
        raise refusal(tree.bad) or ConfigError(f"no image in {tree.files.name} fits {images}")
    return Listing(
        layout="image and mask pairs",
        classes=read_classes(tree),
        splits=(Split(name="", task="segmentation", entries=entries),),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
        why=f"images are {images}, and their masks {masks}",
        labels_from="masks",
    )


def _doubt(group: _Group) -> Doubt:
    images, masks = group.images.removesuffix("/"), group.masks.removesuffix("/")
    return Doubt(
        f"the files in {masks} are single-channel label maps with the names of the images in {images}, so they look "
        "like masks, but the folder is not named like one",
        f"pack pairs (--images {images} --masks {masks}), or images of two classes (--layout classes)",
    )


def _groups(tree: FileTree) -> list[_Group]:
    if tree.options.images is not None:
        return _given(tree)
    return _folders(tree) or _siblings(tree) or _by_suffix(tree)


def _given(tree: FileTree) -> list[_Group]:
    """Return groups for the folders that --images and --masks name."""
    images, masks = (f"{str(given).strip('/')}/" for given in (tree.options.images, tree.options.masks))
    for folder in (images, masks):
        if not tree.files.is_folder(folder):
            raise ConfigError(f"there is no folder {tree.shown(folder)}; name folders inside {tree.files.name}")
    return _with_splits(tree, images, masks)


def _with_splits(tree: FileTree, images: str, masks: str, *, is_sure: bool = True) -> list[_Group]:
    """Return a group for two folders, or a group for each split inside them."""
    folders = tree.folders(images)
    splits = split_names(folders) if folders and not _images_in(tree, images) else {}
    if not splits:
        return [_Group("", images, masks, is_sure)]
    return [_Group(name, f"{images}{folder}/", f"{masks}{folder}/", is_sure) for folder, name in splits.items()]


def _folders(tree: FileTree) -> list[_Group]:
    """Return groups for folders named images and masks, which may hold splits or be in splits."""
    both = _image_and_mask_folder(tree, "")
    if both:
        return _with_splits(tree, *both)
    splits = split_names(
        [name for name in tree.folders() if _image_and_mask_folder(tree, f"{name}/") or split_names([name])]
    )
    inside = [(folder, name, _image_and_mask_folder(tree, f"{folder}/")) for folder, name in splits.items()]
    if not any(both for _, _, both in inside):
        return []
    return [
        _Group(name, *(both or (f"{folder}/", f"{folder}/{MASK_FOLDERS[0]}/")))
        for folder, name, both in inside
        if both or tree.holds_images(f"{folder}/")
    ]


def _siblings(tree: FileTree) -> list[_Group]:
    """Return groups for sibling folders whose files have equal names and one of which holds label maps."""
    pairs = paired_folders(tree)
    if pairs:
        splits = split_names([pair.images for pair in pairs])
        if len(pairs) == 1 and not splits:
            [pair] = pairs
            return _with_splits(tree, f"{pair.images}/", f"{pair.masks}/", is_sure=pair.is_sure)
        names = splits or {pair.images: pair.images for pair in pairs}
        groups = [_Group(names[pair.images], f"{pair.images}/", f"{pair.masks}/", pair.is_sure) for pair in pairs]
        used = {name for pair in pairs for name in (pair.images, pair.masks)}
        bare = [name for name in tree.folders() if name not in used and split_names([name])]
        named = split_names(bare)
        return groups + [
            _Group(named[name], f"{name}/", f"{name}-masks/") for name in bare if tree.holds_images(f"{name}/")
        ]
    folders = tree.folders()
    splits = split_names(folders) if 0 < len(folders) <= 10 else {}
    inside = [(folder, name, paired_folders(tree, f"{folder}/")) for folder, name in splits.items()]
    if not any(len(found) == 1 for *_, found in inside):
        return []
    groups = []
    for folder, name, found in inside:
        if len(found) == 1:
            images, masks = (f"{folder}/{each}/" for each in found[0][:2])
            groups.append(_Group(name, images, masks, found[0].is_sure))
        elif tree.holds_images(f"{folder}/"):
            groups.append(_Group(name, f"{folder}/", f"{folder}/{MASK_FOLDERS[0]}/"))
    return groups


def _image_and_mask_folder(tree: FileTree, prefix: str) -> tuple[str, str] | None:
    """Return the folder of images and the folder of masks inside a folder; None if one is missing."""
    found = [[n for n in tree.folders(prefix) if n.lower() in known] for known in (IMAGE_FOLDERS, MASK_FOLDERS)]
    images, masks = ([f"{prefix}{n}/" for n in names if tree.holds_images(f"{prefix}{n}/")] for names in found)
    if not images or not masks:
        return None
    for several in (images, masks):
        if len(several) > 1:
            shown = " and ".join(map(tree.shown, several))
            kind = "images" if several is images else "masks"
            raise ConfigError(f"{shown} could each be the folder of the {kind}; choose with --images and --masks")
    return images[0], masks[0]


def _images_in(tree: FileTree, folder: str) -> list[str]:
    return [name for name in tree.names(folder) if is_image(name)]


def _by_suffix(tree: FileTree) -> list[_Group]:
    """Return groups with masks next to their images, if the first folder with images has such a pair."""
    first = next((path for path in tree.paths() if is_image(path)), None)
    if first is None:
        return []
    stems = {name.rpartition(".")[0] for name in _images_in(tree, first[: first.rfind("/") + 1])}
    bases = {without_image_suffix(stem) for stem in stems if not _is_mask(stem)}
    if not any(_without_suffix(stem) in bases for stem in stems if _is_mask(stem)):
        return []
    splits = split_names(tree.folders()) if not _images_in(tree, "") else {}
    if splits:
        return [_Group(name, f"{folder}/", f"{folder}/") for folder, name in splits.items()]
    return [_Group("", "", "")]


def _is_mask(stem: str) -> bool:
    return stem.lower().endswith(SUFFIXES)


def _without_suffix(stem: str) -> str:
    return next((stem[: -len(suffix)] for suffix in SUFFIXES if stem.lower().endswith(suffix)), stem)


def _unlabeled(tree: FileTree, group: _Group) -> Iterator[Entry]:
    return (Entry(path, size) for path, size in tree.images(group.images))


def _paired(tree: FileTree, group: _Group) -> Iterator[Entry]:
    mixed = group.images == group.masks
    masks: dict[str, str] = {}
    for path in _image_files(tree, group.masks):
        stem = path[len(group.masks) :].rpartition(".")[0]
        if not mixed or _is_mask(stem):
            base = _without_suffix(stem)
            other = masks.setdefault(base + stem[len(base) :].lower(), path)
            if other != path:
                raise DataError(f"{tree.shown(other)} and {path} would be masks of the same image; remove one")
    paths = tree.image_paths(group.images)
    if mixed:
        paths = (path for path in paths if not _is_mask(path.rpartition(".")[0]))
    bare: dict[str, str] = {}
    for path, size in tree.sized(paths):
        stem = path[len(group.images) :].rpartition(".")[0]
        names = (name + suffix for name in (stem, without_image_suffix(stem)) for suffix in ("", *SUFFIXES))
        mask = next((masks.pop(name) for name in names if name in masks), None)
        if mask is None:
            where = f"next to it ({stem}_mask.png)" if mixed else f"in {tree.shown(group.masks)} ({stem}.png)"
            tree.leave_out(path, f"{tree.shown(path)} has no mask {where}; add it, or remove the image")
            bare[stem] = path
            continue
        if tree.size(mask):
            yield Entry(path, size, mask=mask)
    if not tree.options.skip_bad and (several := masks_of_one_image(bare, masks)):
        image, held = several
        named = ", ".join(masks[each] for each in held[:2]) + (" ..." if len(held) > 2 else "")
        raise ConfigError(f"{tree.shown(bare[image])} seems to have {len(held)} masks ({named}): {ONE_MASK}")
    for mask in masks.values():
        tree.leave_out(mask, f"{tree.shown(mask)} is a mask without an image; add the image, or remove the mask")


def _image_files(tree: FileTree, folder: str) -> Iterable[str]:
    return (path for path in tree.paths(folder) if is_image(path)) if tree.files.is_folder(folder) else ()
