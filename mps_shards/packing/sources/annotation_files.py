"""Search for lists and annotation files in a folder of images or next to it."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from mps_shards.errors import ConfigError, ShardsError
from mps_shards.packing.sources.file_tree import ANNOTATION_KINDS, ARCHIVE_KINDS, FileTree, is_image
from mps_shards.packing.sources.folder_names import SPLIT_WORDS, split_word
from mps_shards.packing.sources.image_finder import ImageFinder
from mps_shards.packing.sources.list_columns import has_label_column, roles_of
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES, LOOSE_SUFFIXES, read_rows
from mps_shards.packing.sources.listing import Doubt, Listing

__all__ = ["doubts_about_annotations", "doubts_about_unread", "labelling_lists", "refuse_foreign_annotations"]

_ROWS = 200  # rows of a list that are read to recognise it
_MOST_LISTS = 20
_MOST_JSON = 64 << 20  # bytes of a .json or .txt file that may be a list
_SNIFFED = 1 << 20  # bytes at the start of a file by which its kind is recognised
_ABOUT = re.compile(
    r"(read[-_]?me|licen[cs]e|copying|change|about|credits|attribution|citation|notice|classes\.txt)", re.I
)
# kind of annotations, name of their file or folder, and the texts that such a file contains
_FOREIGN = (
    ("boxes of DOTA", "labelTxt", ()),
    ("tracks of MOTChallenge", "seqinfo.ini", (b"[Sequence]",)),
    ("annotations of CVAT", "annotations.xml", (b"<annotations",)),
    ("annotations of Supervisely", "meta.json", (b'"classes"', b'"tags"')),
)
_SIDECARS = (
    *((".txt", "captions"), (".xml", "boxes of Pascal VOC"), (".json", "annotations"), (".npy", "arrays")),
    (".cls", "labels of a WebDataset"),
)
_SPLITS = re.compile(r"split|partition", re.I)
_YOLO_LINE = re.compile(rb"\s*\d+(\s+-?[\d.]+(e-?\d+)?){4,}\s*")


def labelling_lists(tree: FileTree) -> dict[str, str]:
    """Find the list in a folder that gives labels or masks of its images, or one such list for each split.

    Returns:
        The split of each list, by the path of the list; "" for the only list.

    Raises:
        ConfigError: several lists fit, and they do not belong to splits.
    """
    found = [name for name in _lists(tree) if "submission" not in name.lower() and _labels_images(tree, name)]
    if len(found) > 1:
        splits = {name: split_word(name.rpartition(".")[0]) or "" for name in found if _has_labels(tree, name)}
        if len(splits) > 1 and all(splits.values()) and len(set(splits.values())) == len(splits):
            return splits
        trains = [name for name in found if split_word(name.rpartition(".")[0]) == "train"]
        others = [name for name in found if name not in trains and _has_labels(tree, name)]
        if len(trains) != 1 or others:
            shown = ", ".join(found[:4])
            raise ConfigError(
                f"{tree.files.name} holds several lists that name its images ({shown}); pack one of them: "
                f"mps-shards pack {tree.shown(found[0])}"
            )
        found = trains
    return dict.fromkeys(found, "")


def doubts_about_annotations(tree: FileTree, listing: Listing) -> Iterator[Doubt]:
    """Yield doubts about annotation files and lists that the listing does not use."""
    for name in _lists(tree):
        if "submission" not in name.lower() and _labels_images(tree, name):
            yield Doubt(
                f"{name} names these images, but is not used: labels come from {listing.labels_from or 'no file'}",
                f"pack the list itself (mps-shards pack {tree.shown(name)}), or ignore the list (--layout "
                f"{'splits' if listing.splits[0].name else 'classes'})",
            )
    kinds: dict[str, str] = {}
    for path in tree.annotations[:_MOST_LISTS]:
        if path.endswith(".json") and (kind := _json_kind(tree, path)):
            kinds.setdefault(kind, path)
    for kind, path in kinds.items():
        yield Doubt(
            f"{path} is {kind} that is not used",
            "put COCO files into annotations/ as instances_SPLIT.json, or ignore the file (--layout flat, "
            "classes or splits)",
        )
    beside = list(_doubts_about_sidecars(tree))
    yield from beside
    tree.annotations += [path for path in _outside_of_images(tree) if path not in tree.annotations]
    unused = [path for path in tree.annotations if not _ABOUT.match(posixpath.basename(path))]
    has_labels = any(split.task != "unlabeled" for split in listing.splits)
    if unused and not has_labels and not kinds and not beside:
        yield Doubt(
            f"the images would get no labels, though {unused[0]} looks like an annotation file",
            "name the list of labels as the source (CSV, TSV, JSON or JSONL; save other tables as one), put COCO files "
            "into annotations/ as instances_SPLIT.json, or pack the images without labels (--layout flat or splits)",
        )
    if unused and len(listing.classes) == 1 and not listing.doubts and not kinds:
        yield Doubt(
            f"all images are in one class, {listing.classes[0]}, though {unused[0]} looks like an annotation file",
            "write a list with the columns path and label and pack that list, or ignore the file (--layout flat, "
            "classes or splits)",
        )
    elif not listing.splits[0].name and has_labels and (path := next(filter(_names_a_split, unused), "")):
        yield Doubt(
            f"{path} looks like the list of a split, but is not used, so all images would be in one set",
            "write a list with the columns path, label and split and pack that list, or ignore the file (--layout "
            "classes, for the folder that holds the classes)",
        )


def _names_a_split(path: str) -> bool:
    """Whether a file is named like a list of one split, or of all splits: train.txt, train_test_split.txt."""
    words = re.split(r"[^a-z]+", posixpath.splitext(posixpath.basename(path))[0].lower())
    return "submission" not in words and (any(word in SPLIT_WORDS for word in words) or bool(_SPLITS.search(path)))


def _outside_of_images(tree: FileTree) -> list[str]:
    """Return the first few annotation files in folders without images, such as ``annotations``."""
    found: list[str] = []
    for folder in tree.folders()[:50]:
        held = list(islice(tree.paths(f"{folder}/"), 20))
        if not any(map(is_image, held)):
            found += [path for path in held if posixpath.splitext(path)[1].lower() in ANNOTATION_KINDS]
    return found


def refuse_foreign_annotations(tree: FileTree) -> None:
    """Refuse a tree with annotations that cannot be packed.

    Raises:
        ConfigError: the tree holds YOLO boxes, or annotations of another program that are not read.
    """
    for name in ("data.yaml", "dataset.yaml", "data.yml"):
        if tree.files.is_file(name) and b"names" in tree.files.read(name)[:_SNIFFED]:
            raise ConfigError(_yolo(tree, name))
    for prefix in ("", *(f"{name}/" for name in tree.folders()[:20])):
        labels = next((name for name in tree.folders(prefix) if name.lower() == "labels"), None)
        if labels and (first := _first_text(tree, f"{prefix}{labels}/")) and _is_yolo(tree, first):
            raise ConfigError(_yolo(tree, first))
    for prefix in ("", *(f"{name}/" for name in tree.folders()[:20])):
        for kind, name, words in _FOREIGN:
            path = prefix + name
            content = tree.files.read(path)[:_SNIFFED] if tree.files.is_file(path) else b""
            if all(word in content for word in words) if words else tree.files.is_folder(path):
                raise ConfigError(
                    f"{tree.shown(path)} belongs to {kind}, which are not read: convert them to COCO with "
                    "segmentations, or to a list with one row per image, or pack images without labels (--layout flat)"
                )
    for name in tree.names():
        if name.lower().endswith(".json") and _json_kind(tree, name) == "an export of Label Studio":
            raise ConfigError(
                f"{tree.shown(name)} is an export of Label Studio, which is not read: export it as COCO, or as a list "
                "with one row per image, or pack the images without labels (--layout flat)"
            )


def _yolo(tree: FileTree, name: str) -> str:
    return (
        f"{tree.files.name} is a YOLO tree: {name} belongs to boxes for detection, which shards cannot hold; pack the "
        "images without labels (--layout flat), or convert the annotations to COCO with segmentations"
    )


def _lists(tree: FileTree) -> list[str]:
    names = tree.names()
    strict = [name for name in names if name.lower().endswith(LIST_SUFFIXES)][:_MOST_LISTS]
    loose = [name for name in names if name.lower().endswith(LOOSE_SUFFIXES)][:_MOST_LISTS]
    loose = [name for name in loose if not _SPLITS.search(name)]
    return strict + [name for name in loose if tree.files.size(name) <= _MOST_JSON and not _json_kind(tree, name)]


def _has_labels(tree: FileTree, name: str) -> bool:
    """Whether a list of images has labels or masks, whatever its columns are called."""
    rows = [cells for _, cells in islice(read_rows(tree.files, name), _ROWS)]
    roles = roles_of(rows, tree.options, ImageFinder(tree), where=name)
    return bool(roles.labels or roles.mask)


def _labels_images(tree: FileTree, name: str) -> bool:
    """Whether a list names images of the tree and has a column that could be a target."""
    finder = ImageFinder(tree, split=split_word(name.rpartition(".")[0]) or "")
    try:
        rows = [cells for _, cells in islice(read_rows(tree.files, name), _ROWS)]
        roles = roles_of(rows, tree.options, finder, where=name)
        found = sum(finder.path_of(row.get(roles.image)) is not None for row in rows[:20])
    except ShardsError:  # not a list of images, or a list of other images
        return False
    has_targets = bool(roles.labels or roles.mask or roles.doubts) or any(map(has_label_column, rows[:1]))
    return found * 2 >= len(rows[:20]) and has_targets


def _json_kind(tree: FileTree, path: str) -> str:
    """Return the kind of a JSON file, which is recognised by its keys; "" for an unknown kind."""
    if tree.files.size(path) > 2 << 30:
        return ""
    content = tree.files.mapped(path)
    head = bytes(content[:_SNIFFED])
    if b'"from_name"' in head or (b'"result"' in head and b'"annotations"' in head):
        return "an export of Label Studio"
    if content.find(b'"annotations"') >= 0 and content.find(b'"categories"') >= 0:
        return "a COCO annotation file"
    if b'"shapes"' in head and b'"imagePath"' in head:
        return "a LabelMe annotation file"
    return ""


def _doubts_about_sidecars(tree: FileTree) -> Iterator[Doubt]:
    """Yield doubts about files of captions or boxes that have the names of images next to them."""
    for kind, what in _SIDECARS:
        paths = [path for path in tree.annotations if path.lower().endswith(kind)][:20]
        beside = [path for path in paths if _has_image(tree, path)]
        if len(beside) * 2 <= len(paths) or not beside:
            continue
        if kind == ".txt" and _is_yolo(tree, beside[0]):
            what = "boxes of YOLO"
        yield Doubt(
            f"{beside[0]} and other {kind} files have the names of images and look like {what}, which are not used",
            "mps-shards reads the tars of a WebDataset as they are ('mps-shards index' on their folder)"
            if kind == ".cls"
            else "write captions or labels into a list (path,caption) and pack that list, or ignore the files "
            "(--layout flat, classes or splits)",
        )


def doubts_about_unread(tree: FileTree) -> Iterator[Doubt]:
    """Yield doubts about archives inside the source, and about images in formats that are not read."""
    archives = [path for path in tree.unread if posixpath.splitext(path)[1].lower() in ARCHIVE_KINDS]
    if archives:
        yield Doubt(
            f"{archives[0]} is an archive inside the source, which is left out{_as_are_more(archives)}",
            "unpack the archive, or pack it as a separate set",
            "content",
        )
    pictures = [path for path in tree.unread if path not in archives and not _has_image(tree, path)]
    if pictures:
        yield Doubt(
            f"{pictures[0]} is an image in a format that is not read, and is left out{_as_are_more(pictures)}",
            "convert such files to PNG or TIFF",
            "content",
        )


def _as_are_more(paths: Sequence[str]) -> str:
    return f", as are {len(paths) - 1} more" if len(paths) > 1 else ""


def _has_image(tree: FileTree, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name.rpartition(".")[0] in tree.stems(f"{folder}/" if folder else "")


def _first_text(tree: FileTree, folder: str) -> str:
    for path in islice(tree.paths(folder), 50):
        if is_image(path):
            return ""
        if path.endswith(".txt") and posixpath.basename(path) != "classes.txt" and tree.files.size(path):
            return path
    return ""


def _is_yolo(tree: FileTree, path: str) -> bool:
    lines: Sequence[bytes] = tree.files.read(path)[:4096].splitlines()[:5]
    return bool(lines) and all(_YOLO_LINE.fullmatch(line) for line in lines if line.strip())
