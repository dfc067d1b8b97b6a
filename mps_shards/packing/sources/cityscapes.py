"""Cityscapes trees: ``leftImg8bit/SPLIT/CITY/x_leftImg8bit.png``, ``gtFine/SPLIT/CITY/x_gtFine_labelTrainIds.png``."""

from collections.abc import Iterator

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.file_tree import FileTree
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["CLASSES", "LABELS", "is_cityscapes", "list_cityscapes"]

# https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py, by label id
LABELS = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road"),
    *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole"),
    *("polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
    *("bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
# Those that count, by train id; all others have the train id 255.
CLASSES = tuple(LABELS[number] for number in (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33))
IGNORE_INDEX = 255
IMAGES, MASKS = "leftImg8bit", "gtFine"


def is_cityscapes(tree: FileTree) -> bool:
    """Whether there is a folder ``leftImg8bit``."""
    return IMAGES in tree.folders()


def list_cityscapes(tree: FileTree) -> Listing:
    """Every image with its mask: of train ids where the tree has any, else of label ids.

    A split without folder in ``gtFine`` has no labels.

    Raises:
        ConfigError: no images, no masks, or none of either kind.
        DataError: naming an image without mask.
    """
    if not is_cityscapes(tree) or MASKS not in tree.folders():
        raise ConfigError(f"{tree.files.name} must hold {IMAGES} and {MASKS}, as Cityscapes does; put both there")
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
    trained = kind == kinds[0]
    return Listing(
        layout=f"Cityscapes ({kind})",
        classes=CLASSES if trained else LABELS,
        splits=tuple(splits),
        ignored=tree.ignored,
        ignore_index=IGNORE_INDEX if trained else None,
        bad=tuple(tree.bad),
    )


def _entries(tree: FileTree, split: str, ending: str) -> Iterator[Entry]:
    for path, size in tree.images(f"{IMAGES}/{split}/"):
        stem = path.removeprefix(IMAGES).rpartition(".")[0].removesuffix(f"_{IMAGES}")
        mask = f"{MASKS}{stem}{ending}" if ending else ""
        if not mask or tree.size(mask, named_by=tree.shown(path)):
            yield Entry(path, size, mask=mask)
