"""Pascal VOC trees: ``JPEGImages``, ``SegmentationClass``, and the splits in ``ImageSets/Segmentation``."""

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.palette import PALETTES
from mps_shards.packing.sources.file_tree import FileTree, is_image, read_classes
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["CLASSES", "is_voc", "list_voc"]

# http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html, section 4.2
CLASSES = PALETTES["voc"].names
IGNORE_INDEX = 255  # "void"
IMAGES, MASKS, SETS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"


def is_voc(tree: FileTree) -> bool:
    """Whether the folders of a Pascal VOC tree exist at the root or in ``VOCdevkit/VOC2012``."""
    return bool(_roots(tree))


def list_voc(tree: FileTree) -> Listing:
    """List the images that the split files name, with their masks; ``trainval`` is used only without train and val.

    A split without any mask, such as the test images of 2012, has no labels. A ``classes.txt`` next to the folders
    replaces the 21 classes of Pascal VOC, for other data sets in this layout.

    Raises:
        ConfigError: there are several such trees, or one without masks or splits for segmentation.
        DataError: a split file is not UTF-8, or names a path outside of the tree.
    """
    roots = _roots(tree)
    if not roots:
        raise ConfigError(f"{tree.files.name} holds no Pascal VOC tree: {IMAGES}, {MASKS} and {SETS} are needed")
    if len(roots) > 1:
        held = ", ".join(map(tree.shown, roots))
        raise ConfigError(
            f"{tree.files.name} must hold one Pascal VOC tree, not {len(roots)} ({held}); name one of them"
        )
    root = roots[0]
    for part in (MASKS, SETS):
        if not tree.files.is_folder(root + part):
            raise ConfigError(
                f"{tree.shown(root)} holds {IMAGES} but no {part}, so it has no label maps; "
                "pack the images without labels (--layout flat)"
            )
    found = {name[:-4]: name for name in tree.names(f"{root}{SETS}") if name.endswith(".txt")}
    names = [name for name in found if name != "trainval" or not {"train", "val"} & found.keys()]
    splits = [_split(tree, root, name) for name in names]
    splits = [split for split in splits if len(split.entries)]
    if not splits:
        raise ConfigError(f"no images found by the split files in {tree.shown(root + SETS)}")
    given = read_classes(tree, root)
    return Listing(
        layout="Pascal VOC",
        why=f"{root}{IMAGES} has masks in {MASKS} and splits in {SETS}",
        labels_from="classes.txt" if given else "the 21 classes of Pascal VOC",
        ignored=tree.ignored,
        classes=given or CLASSES,
        splits=tuple(splits),
        ignore_index=IGNORE_INDEX,
        bad=tuple(tree.bad),
    )


def _roots(tree: FileTree) -> list[str]:
    tops = ["", *(f"{name}/" for name in tree.folders())]
    tops += [f"VOCdevkit/{name}/" for name in tree.folders("VOCdevkit")]
    held = {top: [part for part in (IMAGES, MASKS, SETS) if tree.files.is_folder(top + part)] for top in tops}
    return [top for top, parts in held.items() if IMAGES in parts and len(parts) > 1]


def _split(tree: FileTree, root: str, name: str) -> Split:
    path = f"{root}{SETS}/{name}.txt"
    shown = tree.shown(path)
    try:
        lines = tree.files.read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not UTF-8: {error}; save it as UTF-8") from error
    ids = sorted(_without_extension(line.split()[0]) for line in lines if line.strip())
    extensions = _extensions(tree, f"{root}{IMAGES}/")
    masked = any(tree.files.is_file(f"{root}{MASKS}/{each}.png") for each in ids)
    entries = Entries()
    paths = (tree.inside(f"{root}{IMAGES}/{each}.{extensions.get(each, 'jpg')}", named_by=shown) for each in ids)
    for image, size in tree.sized(paths, named_by=shown):
        stem = image.removeprefix(root + IMAGES).rpartition(".")[0]
        mask = f"{root}{MASKS}{stem}.png" if masked else ""
        if not masked or tree.size(mask, named_by=shown):
            entries.append(Entry(image, size, mask=mask))
    return Split(name=name, task="segmentation" if masked else "unlabeled", entries=entries)


def _extensions(tree: FileTree, folder: str) -> dict[str, str]:
    """Return the extension of each image that does not end in .jpg, by the name without extension."""
    names = (name.rpartition(".") for name in tree.names(folder) if is_image(name))
    return {stem: extension for stem, _, extension in names if extension != "jpg"}


def _without_extension(given: str) -> str:
    return given.rpartition(".")[0] if is_image(given) else given
