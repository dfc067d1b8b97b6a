"""COCO instances: ``annotations/instances_SPLIT.json``, or ``_annotations.coco.json`` next to the images of a split."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import msgspec

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.coco_files import AnnotationFile, Instances, Key, annotation_files, read_instances
from mps_shards.packing.sources.file_tree import FileTree, is_image, refusal
from mps_shards.packing.sources.listing import Doubt, Entries, Entry, Listing, Split
from mps_shards.vision.encoding import read_header
from mps_shards.wording import counted

__all__ = ["is_coco", "list_coco"]

NOTHING = (b"[]", b"null")  # segmentations of annotations that have only a box


class _Shape(msgspec.Struct, omit_defaults=True):
    label: int
    segmentation: msgspec.Raw
    area: float | None = None
    iscrowd: int = 0


class _Shapes(msgspec.Struct):
    """The shapes from which a label map is drawn, as `Entry.shapes` holds them in JSON."""

    height: int
    width: int
    shapes: list[_Shape]


def is_coco(tree: FileTree) -> bool:
    """Whether there are COCO annotation files."""
    return bool(annotation_files(tree))


def list_coco(tree: FileTree) -> Listing:
    """List the images that the files name, with the shapes to draw; an image without annotations is all background.

    Label ids are 0 for the background and, from 1 up, the categories in the order of their ids. Where shapes overlap,
    the smaller one is drawn last. Crowd regions become the ignore index, which is 255, or 65535 if there are more
    classes. As in pycocotools, ids may be text or numbers such as 64.0, sizes may be missing, and the file may begin
    with a byte order mark. Listing takes memory of about 2.5 times the bytes of the largest file.

    Raises:
        ConfigError: there are no such files, or there is no folder with their images.
        DataError: a file is malformed, holds only boxes, has other categories than another file, or has an annotation
            or image that does not fit; the error names the file.
    """
    files = annotation_files(tree)
    if not files:
        raise ConfigError(f"{tree.files.name} holds no annotations/instances_*.json and no _annotations.coco.json")
    splits, known, first, notes = [], None, "", []
    doubts: list[Doubt] = []
    for file in files:
        instances = read_instances(tree, file.path)
        _refuse_boxes(tree, file.path, instances)
        instances, dropped = _without_unused_parent(instances)
        notes += [f"the category {dropped!r} of {file.path} has no annotations and only groups the others"] * bool(
            dropped
        )
        notes += _notes_on_outlines(file.path, instances)
        doubts += _doubts_about_annotations(file.path, instances)
        categories = [(each.id, each.name) for each in instances.categories]
        if known not in (None, categories):
            raise DataError(
                f"{tree.shown(file.path)} has other categories than {first}; splits must share their classes"
            )
        known, first = categories, first or file.path
        entries = Entries(_entries(tree, file, instances))
        if len(entries):
            splits.append(Split(name=file.split, task="segmentation", entries=entries))
    if not splits or not known:
        where = ", ".join(tree.shown(file.path) for file in files[:3])
        raise refusal(tree.bad) or ConfigError(f"{where} names no images, or no categories")
    classes = ("background", *(str(name) for _, name in known))
    return Listing(
        layout="COCO instances",
        classes=classes,
        splits=tuple(sorted(splits, key=lambda split: split.name)),
        ignore_index=255 if len(classes) <= 255 else 65535,
        bad=tuple(tree.bad),
        why=f"{files[0].path} holds COCO annotations",
        labels_from="the categories",
        notes=tuple(dict.fromkeys(notes)),
        doubts=tuple(doubts),
    )


def _notes_on_outlines(path: str, instances: Instances) -> Iterator[str]:
    bare = sum(bytes(each.segmentation) in NOTHING for each in instances.annotations)
    if bare:
        whole = counted(len(instances.annotations), "annotation")
        yield f"{bare:,} of {whole} in {path} have no outline and are not drawn"


def _doubts_about_annotations(path: str, instances: Instances) -> Iterator[Doubt]:
    if instances.images and not instances.annotations:
        yield Doubt(
            f"{path} holds no annotations, so its images would be all background",
            "add the annotations, or pack the images without labels (--layout flat)",
            "content",
        )


def _refuse_boxes(tree: FileTree, path: str, instances: Instances) -> None:
    if instances.annotations and all(bytes(each.segmentation) in NOTHING for each in instances.annotations):
        raise DataError(
            f"{tree.shown(path)} holds boxes but no segmentation, so no label map can be drawn; pack the images "
            "without labels (--layout flat)"
        )


def _without_unused_parent(instances: Instances) -> tuple[Instances, str]:
    """Return the instances without a category that only groups the others, as Roboflow writes it, and its name."""
    used = {each.category_id for each in instances.annotations}
    for each in instances.categories:
        others = [other for other in instances.categories if other is not each]
        if each.id not in used and others and all(other.supercategory == each.name for other in others):
            return Instances(instances.images, instances.annotations, others), str(each.name)
    return instances, ""


def _entries(tree: FileTree, file: AnnotationFile, instances: Instances) -> Iterator[Entry]:
    labels = {each.id: number for number, each in enumerate(instances.categories, 1)}
    where = tree.shown(file.path)
    folder = _image_folder(tree, file)
    images = {_path_of(tree, each.file_name, folder, where): each for each in instances.images}
    drawn = _by_image(where, instances, labels)
    if len(images) < len(instances.images):
        raise DataError(f"{where} has {len(instances.images)} images, but {len(images)} different file names")
    for name, size in tree.sized(sorted(images), named_by=where):
        image = images[name]
        height, width = image.height, image.width
        if height is None or width is None:
            height, width = read_header(tree.files.read(name)).size
        shapes = msgspec.json.encode(_Shapes(height, width, drawn.get(image.id, [])))
        yield Entry(name, size, shapes=msgspec.json.format(shapes, indent=-1).decode())


def _path_of(tree: FileTree, given: str, folder: str, where: str) -> str:
    """Return the path of an image, whose name may be relative to its folder or to the root, or have other folders."""
    path = tree.inside(given, folder, named_by=where)
    if not tree.files.is_file(path):
        for other in (given, folder + given.rpartition("/")[2]):
            if is_image(other) and not other.startswith(("/", "../")) and tree.files.is_file(other):
                return tree.inside(other, named_by=where)
    return path


def _by_image(where: str, instances: Instances, labels: Mapping[Key, int]) -> dict[Key, list[_Shape]]:
    known = {image.id for image in instances.images}
    if len(known) < len(instances.images):
        raise DataError(f"{where} has {len(instances.images)} images, but {len(known)} different ids")
    drawn: dict[Key, list[_Shape]] = defaultdict(list)
    for number, each in enumerate(instances.annotations):
        if each.image_id not in known or each.category_id not in labels:
            raise DataError(
                f"{where}: annotation {number} is of image {each.image_id} and category {each.category_id}; "
                "one of them is not in the file"
            )
        if bytes(each.segmentation) not in NOTHING:
            label = labels[each.category_id]
            drawn[each.image_id].append(_Shape(label, each.segmentation, each.area, int(each.iscrowd)))
    return drawn


def _image_folder(tree: FileTree, file: AnnotationFile) -> str:
    for place in file.folders:
        if not place or tree.files.is_folder(place):
            return place
    wanted = ", ".join(map(tree.shown, file.folders))
    raise ConfigError(f"{tree.shown(file.path)} needs its images in one of {wanted}")
