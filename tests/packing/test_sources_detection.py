"""Every layout is recognised; a tree that fits no layout or two layouts is refused with the next step."""

import json
import shutil
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.listing import Entry
from tests.support.images import tiny_jpeg, write
from tests.support.listings import list_source
from tests.support.trees import TREES, gray_png, label_ids

IMAGE = tiny_jpeg()
SAID = {
    "classes": "class folders: 2 classes, 6 images",
    "splits": "split folders: 2 classes, 2 splits (train, val), 8 images",
    "flat": "flat folder: 4 images",
    "list": "CSV list: 2 classes, 2 splits (train, val), 6 images",
    "metadata": "metadata folder: 2 classes, 2 splits (train, validation), 6 images",
    "pairs": "image and mask pairs: 4 classes, 2 splits (train, val), 6 images",
    "voc": "Pascal VOC: 21 classes, 2 splits (train, val), 5 images",
    "cityscapes": "Cityscapes (labelTrainIds): 19 classes, 2 splits (train, val), 6 images",
    "coco": "COCO instances: 3 classes, 2 splits (train2017, val2017), 6 images",
}


def entries(source: Path, **options) -> dict[str, list[Entry]]:
    """Return the listed entries by split."""
    return {split.name: list(split.entries) for split in list_source(source, **options).splits}


def tree_of(layout: str, root: Path) -> Path:
    """Make a tree of this layout and return the path to pack."""
    TREES[layout](root)
    return root / "list.csv" if layout == "list" else root


@pytest.mark.parametrize("layout", TREES)
def test_the_layout_of_a_tree_is_recognised_and_reported(tmp_path: Path, layout: str):
    source = tree_of(layout, tmp_path)

    assert list_source(source).describe() == SAID[layout]
    assert entries(source) == entries(source, layout=layout)


@pytest.mark.parametrize("layout", ["metadata", "pairs", "voc", "cityscapes", "coco"])
def test_a_layout_that_the_tree_does_not_have_is_refused(tmp_path: Path, layout: str):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        list_source(tree_of("classes", tmp_path), layout=layout)  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "other"), [("voc", "coco"), ("cityscapes", "metadata"), ("pairs", "voc")])
def test_a_tree_that_fits_two_layouts_needs_the_option_that_chooses_one(tmp_path: Path, one: str, other: str):
    TREES[one](tmp_path)
    TREES[other](tmp_path)

    with pytest.raises(ConfigError, match=r"could be read as '\w+' or as '\w+'; choose one with --layout"):
        list_source(tmp_path)
    assert list_source(tmp_path, layout=one).describe().startswith(SAID[one].partition(":")[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layout", "lost", "message"),
    [
        ("voc", "SegmentationClass", "holds JPEGImages but no SegmentationClass, so it has no label maps"),
        ("voc", "ImageSets/Segmentation", "holds JPEGImages but no ImageSets/Segmentation"),
        ("cityscapes", "gtFine", "must hold leftImg8bit and gtFine, as Cityscapes does"),
        ("coco", "train2017", r"instances_train2017\.json needs its images in one of .*/train2017, .*/images"),
        ("pairs", "masks/train", r"images/train/0\.jpg has no mask in .*/masks/train \(0\.png\)"),
    ],
)
def test_a_missing_part_of_a_tree_is_named(tmp_path: Path, layout: str, lost: str, message: str):
    TREES[layout](tmp_path)
    shutil.rmtree(tmp_path / lost)

    with pytest.raises((ConfigError, DataError), match=message):
        list_source(tmp_path)


def test_other_json_files_are_not_coco_instances(tmp_path: Path):
    write(tmp_path, {"annotations/train.json": b"{}", "train/1.jpg": IMAGE})

    [doubt] = list_source(tmp_path).doubts
    assert "no labels, though annotations/train.json looks like an annotation file" in doubt.question
    assert list_source(tmp_path, layout="flat").describe() == "flat folder: 1 image"


def test_boxes_beside_images_are_not_masks(tmp_path: Path):
    write(tmp_path, {"images/1.jpg": IMAGE, "labels/1.txt": b"0 0.5 0.5 1 1"})

    with pytest.raises(
        ConfigError,
        match=r"is a YOLO tree: labels/1\.txt belongs to boxes .* \(--layout flat\)",
    ):
        list_source(tmp_path)


def test_a_list_beside_class_folders_is_read_only_if_it_is_named(tmp_path: Path):
    write(tmp_path, {"cat/1.jpg": IMAGE, "dog/1.jpg": IMAGE, "labels.csv": b"path,label\ncat/1.jpg,9\n"})

    assert list_source(tmp_path).describe() == "class folders: 2 classes, 2 images"
    assert list_source(tmp_path, layout="list").describe() == "CSV list: 10 classes, 1 image"
    assert entries(tmp_path / "labels.csv") == entries(tmp_path, layout="list")


def test_one_of_two_lists_must_be_chosen(tmp_path: Path):
    write(tmp_path, {"1.jpg": IMAGE, "a.csv": b"1.jpg\n", "b.tsv": b"1.jpg\n"})

    with pytest.raises(ConfigError, match=r"must hold one list, not 2 \(a\.csv, b\.tsv\); name the file itself"):
        list_source(tmp_path, layout="list")


def test_a_source_that_is_neither_folder_nor_list_is_refused(tmp_path: Path):
    write(tmp_path, {"list.xlsx": b"PK", "list.csv": b"1.jpg,a\n", "1.jpg": IMAGE})

    with pytest.raises(
        StorageError, match=r"list\.xlsx: not a directory, a list, a Parquet file or an archive \(\.csv, \.tsv, \.jsonl"
    ):
        list_source(tmp_path / "list.xlsx")
    with pytest.raises(StorageError, match=r"gone\.csv: no such file or directory"):
        list_source(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match=r"list\.csv is a list; pack the folder to read it as 'classes'"):
        list_source(tmp_path / "list.csv", layout="classes")


def test_masks_in_class_folders_are_recognised_by_suffix(tmp_path: Path):
    mask = gray_png(label_ids(0, 3))
    write(tmp_path, {"cat/1.jpg": IMAGE, "cat/1_mask.png": mask, "dog/1.jpg": IMAGE, "dog/1_mask.png": mask})

    assert list_source(tmp_path).describe() == "image and mask pairs: 2 images"
    assert list_source(tmp_path, layout="classes").describe() == "class folders: 2 classes, 4 images"


def test_an_image_with_a_mask_suffix_is_an_image_if_it_has_no_partner(tmp_path: Path):
    write(tmp_path, {"cat/1_mask.jpg": IMAGE, "dog/a_label.jpg": IMAGE})

    assert list_source(tmp_path).describe() == "class folders: 2 classes, 2 images"


def test_hidden_files_are_not_marks_of_a_layout(tmp_path: Path):
    write(tmp_path, {".cache/metadata.csv": b"", "cat/1.jpg": IMAGE, "annotations/notes.txt": b""})
    write(tmp_path, {".annotations/instances_x.json": json.dumps({}).encode()})

    assert list_source(tmp_path).describe() == "class folders: 1 class, 1 image"
