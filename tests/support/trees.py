"""A small tree of files for every layout, with real images and targets."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mps_shards.packing.sources.cityscapes import CLASSES as CITYSCAPES_CLASSES
from mps_shards.packing.sources.voc import CLASSES as VOC_CLASSES
from tests.support.images import encoded, pixels, write

HEIGHT, WIDTH = 24, 36
LabelIds = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class TreeRecord:
    """Expected target of one image of a tree. `ids` has the image's shape; a missing label, mask or note is None."""

    split: str = ""
    label: str | None = None
    ids: LabelIds | None = None
    note: dict[str, Any] | None = None


Tree = dict[str, TreeRecord]  # by path


def jpeg(seed: int) -> bytes:
    """Return a JPEG as large as the masks, which depends on the seed."""
    return encoded(Image.fromarray(pixels(HEIGHT, WIDTH, seed=seed)), "JPEG")


def label_ids(seed: int, classes: int, *, ignore: int | None = None) -> LabelIds:
    """Return uint8 [HEIGHT, WIDTH] with rectangles of random ids below `classes`, and a frame of `ignore`."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(6):
        top, left = rng.integers(0, HEIGHT - 4), rng.integers(0, WIDTH - 4)
        ids[top : top + rng.integers(2, 12), left : left + rng.integers(2, 16)] = rng.integers(classes)
    if ignore is not None:
        ids[0], ids[:, -1] = ignore, ignore
    return ids


def gray_png(ids: LabelIds) -> bytes:
    """Return a PNG of a mask with one gray channel."""
    return encoded(Image.fromarray(ids), "PNG")


def palette_png(ids: LabelIds) -> bytes:
    """Return a PNG of a mask with palette indices, as in Pascal VOC."""
    image = Image.frombytes("P", (WIDTH, HEIGHT), ids.tobytes())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    return encoded(image, "PNG")


def classes(root: Path) -> Tree:
    """Write class folders."""
    return _images(root, {f"{label}/{n}.jpg": TreeRecord(label=label) for label in ("cat", "dog") for n in range(3)})


def splits(root: Path) -> Tree:
    """Write class folders in splits."""
    records = {
        f"{split}/{label}/{n}.jpg": TreeRecord(split=split, label=label)
        for split in ("train", "val")
        for label in ("cat", "dog")
        for n in range(2)
    }
    return _images(root, records)


def flat(root: Path) -> Tree:
    """Write images without labels."""
    return _images(root, {f"{n}.jpg": TreeRecord() for n in range(4)})


def table(root: Path, *, suffix: str = ".csv") -> Tree:
    """Write a list with labels, splits and another column: ``list.csv``, or a TSV or JSONL file."""
    records = {
        f"pictures/{n}.jpg": TreeRecord(
            split="val" if n % 3 == 0 else "train", label="dog" if n % 2 else "cow", note={"by": f"X, {n}"}
        )
        for n in range(6)
    }
    rows = [{"path": path, "label": one.label, "split": one.split, **(one.note or {})} for path, one in records.items()]
    write(root, {f"list{suffix}": rows_file(rows, suffix)})
    return _images(root, records)


def rows_file(rows: list[dict[str, Any]], suffix: str) -> bytes:
    """Write rows as CSV, TSV or JSONL."""
    if suffix == ".jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), dialect="excel-tab" if suffix == ".tsv" else "excel")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def metadata(root: Path) -> Tree:
    """Write splits with a ``metadata.jsonl`` each, which holds labels and captions."""
    records = {
        f"{split}/{n}.jpg": TreeRecord(
            split=split, label="cat" if n else "dog", note={"text": f"{split} {n}", "boxes": [[n, 1.5]]}
        )
        for split in ("train", "validation")
        for n in range(3)
    }
    for split in ("train", "validation"):
        rows = [
            {"file_name": path.removeprefix(f"{split}/"), "label": one.label, **(one.note or {})}
            for path, one in records.items()
            if one.split == split
        ]
        write(root, {f"{split}/metadata.jsonl": rows_file(rows, ".jsonl")})
    return _images(root, records)


def pairs(root: Path) -> Tree:
    """Write images and masks in two folders, each with splits."""
    records = {
        f"images/{split}/{n}.jpg": TreeRecord(split=split, ids=label_ids(n + len(split), 4))
        for split in ("train", "val")
        for n in range(3)
    }
    masks = {path.replace("images", "masks").replace("jpg", "png"): one.ids for path, one in records.items()}
    write(root, {path: gray_png(ids) for path, ids in masks.items() if ids is not None})
    write(root, {"classes.txt": b"sky\nroad\ncar\ntree\n"})
    return _images(root, records)


def voc(root: Path) -> Tree:
    """Write a Pascal VOC tree: three images for train, two for val, and one for detection only."""
    records, files = (
        {},
        {"ImageSets/Main/train.txt": b"2007_000032\n2007_000099\n", "JPEGImages/2007_000099.jpg": jpeg(99)},
    )
    for split, numbers in {"train": (32, 33, 68), "val": (39, 63)}.items():
        names = [f"2007_{number:06d}" for number in numbers]
        files[f"ImageSets/Segmentation/{split}.txt"] = "".join(f"{name}\n" for name in names).encode()
        for number, name in zip(numbers, names, strict=True):
            ids = label_ids(number, len(VOC_CLASSES), ignore=255)
            records[f"JPEGImages/{name}.jpg"] = TreeRecord(split=split, ids=ids)
            files[f"SegmentationClass/{name}.png"] = files[f"SegmentationObject/{name}.png"] = palette_png(ids)
            files[f"Annotations/{name}.xml"] = b"<annotation/>"
    files["ImageSets/Segmentation/trainval.txt"] = b"2007_000032\n2007_000039\n"
    write(root, files)
    return _images(root, records)


def cityscapes(root: Path, *, kind: str = "labelTrainIds") -> Tree:
    """Write a Cityscapes tree: two cities for train, one for val; masks beside colours, instances and polygons."""
    records, files = {}, {}
    trained = kind == "labelTrainIds"
    for seed, (split, city) in enumerate([("train", "aachen"), ("train", "bochum"), ("val", "lindau")]):
        for number in range(2):
            name = f"{split}/{city}/{city}_{number:06d}_000019"
            ids = label_ids(
                2 * seed + number, len(CITYSCAPES_CLASSES) if trained else 34, ignore=255 if trained else None
            )
            records[f"leftImg8bit/{name}_leftImg8bit.png"] = TreeRecord(split=split, ids=ids)
            files[f"gtFine/{name}_gtFine_{kind}.png"] = gray_png(ids)
            files[f"gtFine/{name}_gtFine_color.png"] = files[f"gtFine/{name}_gtFine_instanceIds.png"] = palette_png(ids)
            files[f"gtFine/{name}_gtFine_polygons.json"] = b"{}"
    write(root, files)
    return _images(root, records)


def coco(root: Path) -> Tree:
    """Write COCO instances whose boxes have corners at whole pixels, so that their masks are known."""
    records = {}
    for split in ("train2017", "val2017"):
        images, annotations = [], []
        for number in range(3):
            ids = np.zeros((HEIGHT, WIDTH), np.uint8)
            images.append({"id": 10 * number, "file_name": f"{number:012d}.jpg", "height": HEIGHT, "width": WIDTH})
            for category, label, (left, top, width, height) in [(18, 2, (2, 3, 5, 6)), (7, 1, (1, 1, 20, 12))][
                : 2 * number
            ]:
                inside = ids[top : top + height, left : left + width]
                inside[inside == 0] = label  # the smaller object comes first, so it is on top
                right, bottom = left + width, top + height
                polygon = [left, top, right, top, right, bottom, left, bottom]
                annotations.append(
                    {"image_id": 10 * number, "category_id": category, "segmentation": [polygon], "iscrowd": 0}
                    | {"id": len(annotations), "area": width * height, "bbox": [left, top, width, height]}
                )
            if number == 2:
                ids[20:, :4] = 255
                counts = [count for _ in range(4) for count in (20, HEIGHT - 20)] + [HEIGHT * (WIDTH - 4)]
                annotations.append(
                    {"image_id": 20, "category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}}
                    | {"id": len(annotations), "area": 16, "iscrowd": 1}
                )
            records[f"{split}/{number:012d}.jpg"] = TreeRecord(split=split, ids=ids)
        kinds = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 7, "name": "train"}]
        whole = {"info": {}, "images": images, "annotations": annotations, "categories": kinds}
        write(root, {f"annotations/instances_{split}.json": json.dumps(whole).encode()})
        write(root, {f"annotations/captions_{split}.json": b"{}"})
    return _images(root, records)


# What `auto` must take each for; a list is named by its file.
TREES: Mapping[str, Callable[[Path], Tree]] = {
    "classes": classes,
    "splits": splits,
    "flat": flat,
    "list": table,
    "metadata": metadata,
    "pairs": pairs,
    "voc": voc,
    "cityscapes": cityscapes,
    "coco": coco,
}


def _images(root: Path, records: Tree) -> Tree:
    for seed, path in enumerate(records):
        picture = Image.fromarray(pixels(HEIGHT, WIDTH, seed=seed))
        write(root, {path: encoded(picture, "PNG" if path.endswith("png") else "JPEG")})
    return records
