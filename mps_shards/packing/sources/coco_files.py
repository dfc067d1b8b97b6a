"""Search and decoding of COCO annotation files, with the leniency of pycocotools."""

import json
import re
from typing import Any, NamedTuple

import msgspec

from mps_shards.errors import DataError
from mps_shards.packing.sources.file_tree import FileTree
from mps_shards.packing.sources.folder_names import split_word
from mps_shards.shards.manifest import NOT_JSON

__all__ = ["AnnotationFile", "Category", "Instances", "Key", "annotation_files", "read_instances"]

FOLDER, PREFIX = "annotations", "instances_"
ROBOFLOW = "_annotations.coco.json"
_OTHER_KINDS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")
_BOM = b"\xef\xbb\xbf"

Key = int | float | str


class AnnotationFile(NamedTuple):
    """An annotation file, its split, and the folders that may hold its images, each with a slash at its end."""

    path: str
    split: str
    folders: tuple[str, ...]


class _Image(msgspec.Struct, gc=False):
    id: Key
    file_name: str
    height: float | None = None
    width: float | None = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Key
    category_id: Key
    segmentation: msgspec.Raw = msgspec.Raw(b"[]")
    area: float | None = None
    iscrowd: bool | float = 0


class Category(msgspec.Struct):
    """A category of annotations; `supercategory` is the name of a category that groups it."""

    id: Key
    name: str | int
    supercategory: str | None = None


class Instances(msgspec.Struct):
    """The parts of an annotation file that packing uses; see https://cocodataset.org/#format-data."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Category]


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[Category]


def annotation_files(tree: FileTree) -> list[AnnotationFile]:
    """Return the COCO annotation files of a tree. Other places are searched only if ``annotations`` has none."""
    names = [name for name in tree.names(FOLDER) if name.endswith(".json")] if FOLDER in tree.folders() else []
    chosen = [name for name in names if name.startswith(PREFIX)]
    if not chosen:
        chosen = [name for name in names if not name.startswith(_OTHER_KINDS) and _is_coco(tree, f"{FOLDER}/{name}")]
    if chosen:
        return [_in_annotations(name, len(chosen)) for name in chosen]
    beside = [f"{name}/" for name in ("", *tree.folders()) if tree.files.is_file(f"{name}/{ROBOFLOW}".lstrip("/"))]
    if beside:
        found = [folder.lstrip("/") for folder in beside]
        return [AnnotationFile(folder + ROBOFLOW, folder.removesuffix("/"), (folder,)) for folder in found]
    tops = [name for name in tree.names() if name.endswith(".json") and _is_coco(tree, name)]
    return [_at_top(tree, name, len(tops)) for name in tops]


def _in_annotations(name: str, count: int) -> AnnotationFile:
    split = name.removeprefix(PREFIX).removesuffix(".json")
    if not name.startswith(PREFIX):
        split = split_word(split) or ("" if count == 1 else split)
    folders = ("images/",) if not split else (f"{split}/", f"images/{split}/", "images/")
    return AnnotationFile(f"{FOLDER}/{name}", split, folders)


def _at_top(tree: FileTree, name: str, count: int) -> AnnotationFile:
    stem = name.removesuffix(".json")
    split = split_word(stem.replace("annotations", "").replace("instances", "")) or ("" if count == 1 else stem)
    held = [f"{folder}/" for folder in tree.folders() if split and split_word(folder) == split]
    return AnnotationFile(name, split, (*held, "images/", ""))


def _is_coco(tree: FileTree, path: str) -> bool:
    content = tree.files.mapped(path)
    return all(content.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))


def read_instances(tree: FileTree, path: str) -> Instances:
    """Return the content of an annotation file, with its categories in the order of their ids.

    Raises:
        DataError: the file is malformed; the error names the field.
    """
    mapped = tree.files.mapped(path)
    content: Any = memoryview(mapped)[3:] if mapped[:3] == _BOM else mapped
    where = tree.shown(path)
    try:
        file = msgspec.json.decode(content, type=_File)  # segmentations stay in the mapped file, unparsed
    except NOT_JSON as error:
        file = _decode_leniently(bytes(content), where, error)
    for image in file.images:
        image.id = _key(image.id)
        image.height, image.width = _whole(image.height, where), _whole(image.width, where)
    for annotation in file.annotations:
        annotation.image_id, annotation.category_id = _key(annotation.image_id), _key(annotation.category_id)
    for category in file.categories:
        category.id, category.name = _key(category.id), str(category.name)
    ordered = sorted(file.categories, key=lambda each: (isinstance(each.id, str), each.id))
    return Instances(file.images, file.annotations, ordered)


def _decode_leniently(content: bytes, where: str, cause: Exception) -> _File:
    """Decode a file with NaN or Infinity, which Python's json writes; both become null."""
    if re.search(rb'"caption"\s*:', content) and b'"category_id"' not in content:
        raise DataError(
            f"{where} holds captions, not outlines of objects: write a list with the columns path and caption, and "
            "pack the list with --targets caption"
        ) from cause
    if not re.search(rb"\b(NaN|Infinity)\b", content):
        raise DataError(f"{where}: {cause}") from cause
    try:
        plain = json.loads(content, parse_constant=lambda name: None)
        return msgspec.json.decode(msgspec.json.encode(plain), type=_File)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(f"{where}: {error}") from error


def _key(given: Key) -> int | str:
    """Return an id in the form in which ids are compared: 64.0 becomes 64."""
    if isinstance(given, float) and given.is_integer():
        return int(given)
    return given if isinstance(given, int | str) else str(given)


def _whole(given: float | None, where: str) -> int | None:
    if given is None:
        return None
    if given != int(given):
        raise DataError(f"{where}: an image has a side of {given} pixels; sides are whole numbers")
    return int(given)
