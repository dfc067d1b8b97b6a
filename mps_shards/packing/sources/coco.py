"""COCO instances: ``annotations/instances_SPLIT.json``, and the images in ``SPLIT``, ``images/SPLIT`` or ``images``."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.file_tree import FileTree, refusal
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.shards.manifest import NOT_JSON

__all__ = ["is_coco", "list_coco"]

FOLDER, PREFIX = "annotations", "instances_"
NOTHING = (b"[]", b"null")  # the segmentation of a box


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    height: int
    width: int


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    segmentation: msgspec.Raw = msgspec.Raw(b"[]")
    area: float | None = None
    iscrowd: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Instances(msgspec.Struct):
    """The parts of a file that matter here; see https://cocodataset.org/#format-data."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Shape(msgspec.Struct, omit_defaults=True):
    label: int
    segmentation: msgspec.Raw
    area: float | None = None
    iscrowd: int = 0


class _Shapes(msgspec.Struct):
    """What a label map is drawn from, as `Entry.shapes` holds it."""

    height: int
    width: int
    shapes: list[_Shape]


def is_coco(tree: FileTree) -> bool:
    """Whether there are JSON files in a folder ``annotations``."""
    return FOLDER in tree.folders() and any(name.endswith(".json") for name in tree.names(FOLDER))


def list_coco(tree: FileTree) -> Listing:
    """Every image that the files name, with the shapes of its annotations; an image without any is all background.

    Label ids are 0 for the background and, from 1 up, the categories in the order of their ids. Where shapes overlap
    the smaller area lies above; crowd regions become the ignore index, 255, or 65535 for more classes than that.
    Listing takes some 2.5 times the bytes of the largest file: 1.1 GB for one as large as that of train2017 (470 MB),
    where the half is the mapped file itself.

    Raises:
        ConfigError: no such files, or no folder with their images.
        DataError: naming the file: malformed, boxes only, other categories than in another file, or an annotation or
            image that does not fit.
    """
    if not is_coco(tree):
        raise ConfigError(f"{tree.shown(FOLDER)} holds no {PREFIX}*.json")
    files = [name for name in tree.names(FOLDER) if name.startswith(PREFIX) and name.endswith(".json")]
    if not files:
        held = ", ".join(name for name in tree.names(FOLDER) if name.endswith(".json"))
        raise ConfigError(
            f"{tree.shown(FOLDER)} holds no {PREFIX}*.json (but {held}); name the file of a split like "
            f"{PREFIX}train2017.json, or name another layout"
        )
    splits, known = [], None
    for file in files:
        path = f"{FOLDER}/{file}"
        instances = _read(tree, path)
        categories = sorted((category.id, category.name) for category in instances.categories)
        if known not in (None, categories):
            raise DataError(f"{tree.shown(path)} has other categories than {files[0]}; splits must share their classes")
        known = categories
        name = file.removeprefix(PREFIX).removesuffix(".json")
        entries = Entries(_entries(tree, path, name, instances))
        if len(entries):
            splits.append(Split(name=name, task="segmentation", entries=entries))
    if not splits or not known:
        raise refusal(tree.bad) or ConfigError(
            f"no images or no categories found by {tree.shown(FOLDER)}/{PREFIX}*.json"
        )
    classes = ("background", *(name for _, name in known))
    return Listing(
        layout="COCO instances",
        classes=classes,
        splits=tuple(splits),
        ignore_index=255 if len(classes) <= 255 else 65535,
        bad=tuple(tree.bad),
    )


def _read(tree: FileTree, path: str) -> _Instances:
    try:
        # segmentations stay in the mapped file, unparsed
        instances = msgspec.json.decode(tree.files.mapped(path), type=_Instances)
    except NOT_JSON as error:
        raise DataError(f"{tree.shown(path)}: {error}") from error
    if instances.annotations and all(bytes(each.segmentation) in NOTHING for each in instances.annotations):
        raise DataError(
            f"{tree.shown(path)} holds boxes but no segmentation, so no label map can be drawn; use layout 'flat'"
        )
    return instances


def _entries(tree: FileTree, path: str, split: str, instances: _Instances) -> Iterator[Entry]:
    labels = {each.id: number for number, each in enumerate(sorted(instances.categories, key=lambda c: c.id), 1)}
    folder = _image_folder(tree, path, split)
    where = tree.shown(path)
    images = {tree.inside(each.file_name, folder, named_by=where): each for each in instances.images}
    drawn = _by_image(where, instances, labels)
    if len(images) < len(instances.images):
        raise DataError(f"{where} has {len(instances.images)} images, but only {len(images)} names of files")
    for name, size in tree.sized(sorted(images), named_by=where):
        image = images[name]
        shapes = msgspec.json.encode(_Shapes(image.height, image.width, drawn.get(image.id, [])))
        yield Entry(name, size, shapes=msgspec.json.format(shapes, indent=-1).decode())


def _by_image(where: str, instances: _Instances, labels: Mapping[int, int]) -> dict[int, list[_Shape]]:
    known = {image.id for image in instances.images}
    if len(known) < len(instances.images):
        raise DataError(f"{where} has {len(instances.images)} images, but only {len(known)} ids")
    drawn: dict[int, list[_Shape]] = defaultdict(list)
    for number, each in enumerate(instances.annotations):
        if each.image_id not in known or each.category_id not in labels:
            raise DataError(
                f"{where}: annotation {number} is of image {each.image_id} and category {each.category_id}; "
                "one of them is not in the file"
            )
        if bytes(each.segmentation) not in NOTHING:
            drawn[each.image_id].append(_Shape(labels[each.category_id], each.segmentation, each.area, each.iscrowd))
    return drawn


def _image_folder(tree: FileTree, path: str, split: str) -> str:
    places: Sequence[str] = (f"{split}/", f"images/{split}/", "images/")
    for place in places:
        if tree.files.is_folder(place):
            return place
    raise ConfigError(f"{tree.shown(path)} needs its images in one of {', '.join(map(tree.shown, places))}")
