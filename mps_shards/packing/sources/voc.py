"""Pascal VOC trees: ``JPEGImages``, ``SegmentationClass``, and the splits in ``ImageSets/Segmentation``."""

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source_tree import Source, read_classes

__all__ = ["CLASSES", "is_voc", "list_voc"]

# http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 4.2; 255 is "void"
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
IGNORE_INDEX = 255
IMAGES, MASKS, SETS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"


def is_voc(source: Source) -> bool:
    """Whether there are such a tree's folders, right here or in ``VOCdevkit/VOC2012``."""
    return bool(_roots(source))


def list_voc(source: Source) -> Listing:
    """The images that the split files name, with their masks; ``trainval`` counts only where its parts are missing.

    A split without any mask, as the test images of 2012, has no labels. A ``classes.txt`` beside the folders replaces
    the 21 names of Pascal VOC, for other sets in this form.

    Raises:
        ConfigError: several such trees, or one without masks or splits for segmentation.
        DataError: naming a split file and an image or mask that is missing.
    """
    roots = _roots(source)
    if not roots:
        raise ConfigError(f"{source.folder} holds no Pascal VOC tree: {IMAGES}, {MASKS} and {SETS} are needed")
    if len(roots) > 1:
        held = ", ".join(str(source.folder / root) for root in roots)
        raise ConfigError(f"{source.folder} must hold one Pascal VOC tree, not {len(roots)} ({held}); name one of them")
    root = roots[0]
    for part in (MASKS, SETS):
        if not (source.folder / root / part).is_dir():
            raise ConfigError(
                f"{source.folder / root} holds {IMAGES} but no {part}, so it tells nothing about segmentation; "
                "to pack the images alone use layout 'flat'"
            )
    found = {name[:-4]: name for name in source.names(f"{root}{SETS}") if name.endswith(".txt")}
    names = [name for name in found if name != "trainval" or not {"train", "val"} & found.keys()]
    splits = [_split(source, root, name) for name in names]
    splits = [split for split in splits if len(split.entries)]
    if not splits:
        raise ConfigError(f"no images found by the split files in {source.folder / root / SETS}")
    return Listing(
        layout="Pascal VOC",
        classes=read_classes(source.folder / root) or CLASSES,
        splits=tuple(splits),
        ignore_index=IGNORE_INDEX,
        bad=tuple(source.bad),
    )


def _roots(source: Source) -> list[str]:
    tops = ["", *(f"{name}/" for name in source.folders())]
    tops += [f"VOCdevkit/{name}/" for name in source.folders("VOCdevkit")]
    held = {top: [part for part in (IMAGES, MASKS, SETS) if (source.folder / top / part).is_dir()] for top in tops}
    return [top for top, parts in held.items() if IMAGES in parts and len(parts) > 1]


def _split(source: Source, root: str, name: str) -> Split:
    path = source.folder / root / SETS / f"{name}.txt"
    try:
        ids = sorted(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    masked = any((source.folder / root / MASKS / f"{each}.png").exists() for each in ids)
    entries = Entries()
    paths = (source.inside(f"{root}{IMAGES}/{each}.jpg", named_by=str(path)) for each in ids)
    for image, size in source.sized(paths, named_by=str(path)):
        mask = f"{root}{MASKS}{image.removeprefix(root + IMAGES)[:-4]}.png" if masked else ""
        if not masked or source.size(mask, named_by=str(path)):
            entries.append(Entry(image, size, mask=mask))
    return Split(name=name, task="segmentation" if masked else "unlabeled", entries=entries)
