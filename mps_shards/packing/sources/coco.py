"""COCO instances: ``annotations/instances_SPLIT.json``, and the images in ``SPLIT``, ``images/SPLIT`` or ``images``."""

import mmap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source_tree import Source
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


def is_coco(source: Source) -> bool:
    """Whether there are JSON files in a folder ``annotations``."""
    return FOLDER in source.folders() and any(name.endswith(".json") for name in source.names(FOLDER))


def list_coco(source: Source) -> Listing:
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
    if not is_coco(source):
        raise ConfigError(f"{source.folder / FOLDER} holds no {PREFIX}*.json")
    files = [name for name in source.names(FOLDER) if name.startswith(PREFIX) and name.endswith(".json")]
    if not files:
        held = ", ".join(name for name in source.names(FOLDER) if name.endswith(".json"))
        raise ConfigError(
            f"{source.folder / FOLDER} holds no {PREFIX}*.json (but {held}); name the file of a split like "
            f"{PREFIX}train2017.json, or name another layout"
        )
    splits, known = [], None
    for file in files:
        path = source.folder / FOLDER / file
        instances = _read(path)
        categories = sorted((category.id, category.name) for category in instances.categories)
        if known not in (None, categories):
            raise DataError(f"{path} has other categories than {files[0]}; splits must share their classes")
        known = categories
        name = file.removeprefix(PREFIX).removesuffix(".json")
        entries = Entries(_entries(source, path, name, instances))
        if len(entries):
            splits.append(Split(name=name, task="segmentation", entries=entries))
    if not splits or not known:
        raise ConfigError(f"no images or no categories found by {source.folder / FOLDER}/{PREFIX}*.json")
    classes = ("background", *(name for _, name in known))
    return Listing(
        layout="COCO instances",
        classes=classes,
        splits=tuple(splits),
        ignore_index=255 if len(classes) <= 255 else 65535,
        bad=tuple(source.bad),
    )


def _read(path: Path) -> _Instances:
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # segmentations stay there, unparsed
        instances = msgspec.json.decode(content, type=_Instances)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except (*NOT_JSON, ValueError) as error:  # an empty file cannot be mapped
        raise DataError(f"{path}: {error}") from error
    if instances.annotations and all(bytes(each.segmentation) in NOTHING for each in instances.annotations):
        raise DataError(f"{path} holds boxes but no segmentation, so no label map can be drawn; use layout 'flat'")
    return instances


def _entries(source: Source, path: Path, split: str, instances: _Instances) -> Iterator[Entry]:
    labels = {each.id: number for number, each in enumerate(sorted(instances.categories, key=lambda c: c.id), 1)}
    folder = _image_folder(source, path, split)
    where = str(path)
    images = {source.inside(each.file_name, folder, named_by=where): each for each in instances.images}
    drawn = _by_image(where, instances, labels)
    if len(images) < len(instances.images):
        raise DataError(f"{path} has {len(instances.images)} images, but only {len(images)} names of files")
    for name, size in source.sized(sorted(images), named_by=where):
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


def _image_folder(source: Source, path: Path, split: str) -> str:
    places: Sequence[str] = (f"{split}/", f"images/{split}/", "images/")
    for place in places:
        if (source.folder / place).is_dir():
            return place
    raise ConfigError(f"{path} needs its images in one of {', '.join(str(source.folder / place) for place in places)}")
