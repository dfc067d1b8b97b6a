"""Cityscapes trees: ``leftImg8bit/SPLIT/CITY/x_leftImg8bit.png``, ``gtFine/SPLIT/CITY/x_gtFine_labelTrainIds.png``."""

from collections.abc import Iterator

from mps_shards.errors import ConfigError
from mps_shards.packing.label_id_maps import ID_MAPS
from mps_shards.packing.palette import PALETTES
from mps_shards.packing.sources.file_tree import FileTree
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["CLASSES", "is_cityscapes", "list_cityscapes"]

CLASSES = PALETTES["cityscapes"].names  # the 19 classes by train id; all other labels have the train id 255
IGNORE_INDEX = 255
IMAGES, MASKS = "leftImg8bit", "gtFine"


def is_cityscapes(tree: FileTree) -> bool:
    """Whether there is a folder ``leftImg8bit``."""
    return IMAGES in tree.folders()


def list_cityscapes(tree: FileTree) -> Listing:
    """List every image with its mask of train ids. If the tree holds only raw label ids, they are changed to train ids.

    A split without a folder in ``gtFine`` has no labels.

    Raises:
        ConfigError: there are no images, or no masks with train ids or raw label ids.
        DataError: two images would share a key.
    """
    if not is_cityscapes(tree) or MASKS not in tree.folders():
        raise ConfigError(f"{tree.files.name} must hold {IMAGES} and {MASKS}, as Cityscapes does; create both folders")
    kinds = ("labelTrainIds", "labelIds")
    held = {kind for path in tree.paths(f"{MASKS}/") for kind in kinds if path.endswith(f"_{MASKS}_{kind}.png")}
    if not held:
        raise ConfigError(f"{tree.shown(MASKS)} holds no {' or '.join(f'*_{MASKS}_{kind}.png' for kind in kinds)}")
    kind = next(kind for kind in kinds if kind in held)
    splits = []
    for name in tree.folders(IMAGES):
        masked = name in tree.folders(MASKS)
        entries = Entries(_entries(tree, name, f"_{MASKS}_{kind}.png" if masked else ""))
        if len(entries):
            splits.append(Split(name=name, task="segmentation" if masked else "unlabeled", entries=entries))
    if not splits:
        raise tree.no_images()
    is_raw = kind == "labelIds"
    raw_note = "raw label ids (labelIds) become the 19 train ids, and 255 for all other labels"
    return Listing(
        layout=f"Cityscapes ({kind})",
        classes=CLASSES,
        splits=tuple(splits),
        ignored=tree.ignored,
        ignore_index=IGNORE_INDEX,
        bad=tuple(tree.bad),
        why=f"images in {IMAGES} have masks in {MASKS}",
        labels_from="masks",
        id_map=ID_MAPS["cityscapes"] if is_raw else None,
        notes=(raw_note,) if is_raw else (),
    )


def _entries(tree: FileTree, split: str, ending: str) -> Iterator[Entry]:
    for path, size in tree.images(f"{IMAGES}/{split}/"):
        stem = path.removeprefix(IMAGES).rpartition(".")[0].removesuffix(f"_{IMAGES}")
        mask = f"{MASKS}{stem}{ending}" if ending else ""
        if not mask or tree.size(mask, named_by=tree.shown(path)):
            yield Entry(path, size, mask=mask)
