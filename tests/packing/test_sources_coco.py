"""COCO instances become shapes to draw with label ids from 1 up; annotations that do not fit are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from mps_shards.errors import ConfigError, DataError
from tests.support.images import tiny_jpeg, write
from tests.support.listings import list_source
from tests.support.trees import coco

IMAGE = tiny_jpeg()
POLYGON = [[0.5, 0.25, 7, 0, 7.125, 7]]


def instances(**changes: Any) -> dict[str, Any]:
    """Return the content of a file with one image, one annotation, and categories whose ids have gaps."""
    whole = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 8, "width": 8}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 90, "segmentation": POLYGON, "area": 24.5, "iscrowd": 0}
        ],
        "categories": [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}],
    }
    return whole | changes


def coco_of(root: Path, whole: Any, *, split: str = "train", folder: str = "train") -> Path:
    """Make a tree with the image a.jpg and this annotation file."""
    content = whole if isinstance(whole, bytes) else json.dumps(whole, indent=1).encode()
    return write(root, {f"annotations/instances_{split}.json": content, f"{folder}/a.jpg": IMAGE})


def shapes(source: Path) -> dict[str, Any]:
    """Return the shapes to draw for each image of all splits."""
    return {each.path: json.loads(each.shapes) for split in list_source(source).splits for each in split.entries}


def test_categories_become_label_ids_in_the_order_of_their_ids(tmp_path: Path):
    listing = list_source(coco_of(tmp_path, instances()))

    assert (listing.classes, listing.ignore_index) == (("background", "car", "brush"), 255)
    assert listing.splits[0].task == "segmentation"
    assert listing.splits[0].entries[0].shapes == (  # without whitespace
        '{"height":8,"width":8,"shapes":[{"label":2,"segmentation":[[0.5,0.25,7,0,7.125,7]],"area":24.5}]}'
    )


@pytest.mark.parametrize("folder", ["train", "images/train", "images"])
def test_images_are_found_in_the_folder_of_their_split_or_in_images(tmp_path: Path, folder: str):
    source = coco_of(tmp_path, instances(), folder=folder)

    assert list(shapes(source)) == [f"{folder}/a.jpg"]


def test_polygons_and_run_lengths_are_copied_in_their_order(tmp_path: Path):
    annotations = [
        {"image_id": 5, "category_id": 3, "segmentation": {"size": [8, 8], "counts": "0aQ"}, "area": 3, "iscrowd": 1},
        {"image_id": 5, "category_id": 90, "segmentation": {"size": [8, 8], "counts": [1, 2, 61]}},
        {"image_id": 5, "category_id": 3, "segmentation": POLYGON, "area": 1e3, "score": 0.5, "bbox": [0, 0, 1, 1]},
    ]

    [drawn] = shapes(coco_of(tmp_path, instances(annotations=annotations))).values()

    assert drawn["shapes"] == [
        {"label": 1, "segmentation": {"size": [8, 8], "counts": "0aQ"}, "area": 3, "iscrowd": 1},
        {"label": 2, "segmentation": {"size": [8, 8], "counts": [1, 2, 61]}},
        {"label": 1, "segmentation": POLYGON, "area": 1000},
    ]


def test_an_image_without_annotations_is_background(tmp_path: Path):
    told = coco(tmp_path)

    assert shapes(tmp_path).keys() == told.keys()
    assert shapes(tmp_path)["val2017/000000000000.jpg"] == {"height": 24, "width": 36, "shapes": []}


def test_images_come_sorted_by_path_whatever_the_order_in_the_file(tmp_path: Path):
    images = [{"id": n, "file_name": name, "height": 8, "width": 8} for n, name in enumerate(("b.jpg", "a.jpg"))]
    source = coco_of(tmp_path, instances(images=images, annotations=[]))
    write(source, {"train/b.jpg": IMAGE, "train/unnamed.jpg": IMAGE})

    assert list(shapes(source)) == ["train/a.jpg", "train/b.jpg"]


def test_with_many_classes_the_ignore_index_is_65535(tmp_path: Path):
    categories = [{"id": n, "name": str(n)} for n in range(300)]

    listing = list_source(coco_of(tmp_path, instances(categories=categories)))

    assert (len(listing.classes), listing.ignore_index) == (301, 65535)


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (b"", r"instances_train\.json: Input data was truncated"),
        (b'{"images": [', r"instances_train\.json: Input data was truncated"),
        (b'{"images": []}', r"instances_train\.json: Object missing required field `annotations`"),
        (instances(images=[{"id": 5}]), r"required field `file_name` - at `\$\.images\[0\]`"),
        (instances(images=instances()["images"] * 2), "has 2 images, but 1 different ids"),
        (
            instances(images=[*instances()["images"], {**instances()["images"][0], "id": 6}]),
            "but 1 different file names",
        ),
        (
            instances(images=[{**instances()["images"][0], "file_name": "b.jpg"}]),
            r"train\.json: there is no file .*b\.jpg",
        ),
        (instances(images=[{**instances()["images"][0], "file_name": "../../b.jpg"}]), "is outside of"),
        (instances(annotations=[{**instances()["annotations"][0], "image_id": 7}]), "annotation 0 is of image 7 and"),
        (
            instances(categories=[{"id": 3, "name": "car"}]),
            "of image 5 and category 90; one of them is not in the file",
        ),
        (
            instances(annotations=[{"image_id": 5, "category_id": 3, "segmentation": []}]),
            "holds boxes but no segmentation",
        ),
        (
            instances(annotations=[{"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1]}]),
            "holds boxes but no segment",
        ),
    ],
)
def test_an_inconsistent_annotation_file_is_named(tmp_path: Path, whole: Any, message: str):
    with pytest.raises(DataError, match=message):
        list_source(coco_of(tmp_path, whole))


def test_splits_with_other_categories_are_refused(tmp_path: Path):
    coco_of(tmp_path, instances())
    coco_of(tmp_path, instances(categories=[{"id": 90, "name": "comb"}]), split="val", folder="val")

    with pytest.raises(DataError, match=r"instances_val\.json has other categories than annotations/inst"):
        list_source(tmp_path)


@pytest.mark.parametrize("changes", [{"images": [], "annotations": []}, {"categories": [], "annotations": []}])
def test_a_file_without_images_or_categories_is_refused(tmp_path: Path, changes: dict[str, Any]):
    with pytest.raises(ConfigError, match="names no images, or no categories"):
        list_source(coco_of(tmp_path, instances(**changes)))


def test_a_missing_image_can_be_skipped_and_is_listed(tmp_path: Path):
    coco(tmp_path)
    (tmp_path / "val2017/000000000001.jpg").unlink()

    assert [bad.path for bad in list_source(tmp_path, skip_bad=True).bad] == ["val2017/000000000001.jpg"]
