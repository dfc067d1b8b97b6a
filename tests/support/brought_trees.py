"""Trees of files from common data sets, and the interpretation that `pack` must give each tree."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.support.images import encoded, pixels

Files = dict[str, bytes]


def jpeg(seed: int = 0) -> bytes:
    return encoded(Image.fromarray(pixels(24, 32, seed=seed)), "JPEG")


def images(*paths: str) -> Files:
    return {path: image_of(path, seed) for seed, path in enumerate(paths)}


def image_of(path: str, seed: int) -> bytes:
    kind = {"png": "PNG", "tif": "TIFF"}.get(path.rpartition(".")[2].lower(), "JPEG")
    return encoded(Image.fromarray(pixels(24, 32, seed=seed)), kind)


def mask(*ids: int) -> bytes:
    """Return a mask with bands of these label ids, as large as the images."""
    values = np.repeat(np.array(ids, np.uint8), -(-32 // len(ids)))[:32]
    return encoded(Image.fromarray(np.tile(values, (24, 1))), "PNG")


def masks(ids: tuple[int, ...], *paths: str) -> Files:
    return dict.fromkeys(paths, mask(*ids))


def rows(header: str, *lines: str) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def coco(folder: str = "", **of_image: Any) -> bytes:
    runs = {"size": [24, 32], "counts": [100, 50, 24 * 32 - 150]}
    whole = {
        "images": [{"id": 1, "file_name": f"{folder}0.jpg", "height": 24, "width": 32, **of_image}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": runs, "area": 50, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "crack", "supercategory": "defects"}],
    }
    return json.dumps(whole).encode()


class Case(NamedTuple):
    """A tree of files, the source in it to pack, and the expected result.

    Attributes:
        sets: task, class names and number of images by split; empty if the pack is refused.
        words: texts that the command must print.
        settled: options that resolve the refusal, with the expected result.
    """

    files: Files
    sets: Mapping[str, tuple[str, tuple[str, ...], int]] = {}
    words: tuple[str, ...] = ()
    source: str = ""
    options: tuple[str, ...] = ()
    settled: tuple[tuple[str, ...], Mapping[str, tuple[str, tuple[str, ...], int]]] | None = None


CATS = ("cat", "dog")
PETS = [f"{label}/{n}.jpg" for label in CATS for n in range(2)]
NAMES = [f"{n}.jpg" for n in range(6)]
LABELLED = {"": ("classification", CATS, 6)}


def split_tree(train: str, test: str) -> Files:
    return images(*(f"{split}/{path}" for split in (train, test) for path in PETS))


def listed(header: str, cells: list[str], *, folder: str = "", names: list[str] = NAMES) -> Files:
    table = rows(header, *(f"{name},{cell}" for name, cell in zip(names, cells, strict=False)))
    return {**images(*(f"{folder}{name}" for name in NAMES)), "labels.csv": table}


def windows(table: bytes) -> bytes:
    return b"\xef\xbb\xbf" + table.replace(b"\n", b"\r\n") + b"\r\n"


TWO = ["cat", "dog"] * 3
TAGS = ["haze primary", "clear primary", "clear road", "haze road", "road primary", "clear"]
TRAIN_TEST = {"train": ("classification", CATS, 4), "test": ("classification", CATS, 4)}
PAIRS = {"": ("segmentation", (), 3)}

CASES = {
    # trees with names of splits
    "training_set": Case(split_tree("training_set", "test_set"), TRAIN_TEST, ("training_set is split 'train'",)),
    "seg_train": Case(split_tree("seg_train/seg_train", "seg_test/seg_test"), TRAIN_TEST, ("Splits: test 4, train 4",)),
    "train_images": Case(
        split_tree("train_images", "val_images"),
        {"train": ("classification", CATS, 4), "val": ("classification", CATS, 4)},
    ),
    "flowers_train": Case(split_tree("flowers_train", "flowers_test"), TRAIN_TEST),
    "split beside a class": Case(
        images("train/a.jpg", "lorry/b.jpg", "van/c.jpg"),
        words=("train looks like a split", "--layout classes"),
        settled=(("--layout", "classes"), {"": ("classification", ("lorry", "train", "van"), 3)}),
    ),
    # trees with one more level of folders
    "wrapper": Case(
        images(*(f"pets/{path}" for path in PETS)), {"": ("classification", CATS, 4)}, ("pets holds all images",)
    ),
    "wrapped splits": Case(
        {f"xray/{path}": content for path, content in split_tree("train", "test").items()}, TRAIN_TEST, ("xray holds",)
    ),
    "two wrappers": Case(
        images(*(f"Data/CLS/train/{path}" for path in PETS)),
        {"train": ("classification", CATS, 4)},
        ("taken as the source",),
    ),
    "one class and deeper folders": Case(
        images("pets/0.jpg", *(f"pets/{path}" for path in PETS)),
        words=("all images are in one class, pets", "cat, dog"),
        settled=(("--yes",), {"": ("classification", ("pets",), 5)}),
    ),
    "equal folders in several": Case(
        images(*(f"part{n}/{path}" for n in (1, 2) for path in PETS)), words=("holds the same folders (cat, dog)",)
    ),
    "hardly two share a class": Case(
        images(*(f"person-{n}/0.jpg" for n in range(8))), words=("8 images have 8 different labels", "--layout flat")
    ),
    # trees with images and masks in folders of other names
    "train and trainannot": Case(
        {
            **images(*(f"{split}/{n}.jpg" for split in ("train", "val") for n in range(2))),
            **masks((0, 1, 2), *(f"{split}annot/{n}.png" for split in ("train", "val") for n in range(2))),
        },
        {"train": ("segmentation", (), 2), "val": ("segmentation", (), 2)},
        ("masks of the same names",),
    ),
    "img_dir and ann_dir": Case(
        {
            **images("img_dir/train/0.jpg", "img_dir/val/1.jpg"),
            **masks((0, 1), "ann_dir/train/0.png", "ann_dir/val/1.png"),
        },
        {"train": ("segmentation", (), 1), "val": ("segmentation", (), 1)},
    ),
    "x and y": Case(
        {**images("x/0.png", "x/1.png", "x/2.png"), **masks((0, 1), "y/0.png", "y/1.png", "y/2.png")}, PAIRS
    ),
    "a folder of label maps without a known name": Case(
        {**images("pics/0.jpg", "pics/1.jpg", "pics/2.jpg"), **masks((0, 1), "q/0.png", "q/1.png", "q/2.png")},
        words=("--images pics --masks q",),
        settled=(("--images", "pics", "--masks", "q"), PAIRS),
    ),
    "patterns": Case(
        {**images("a/0_rgb.jpg", "a/1_rgb.jpg", "a/2_rgb.jpg"), **masks((0, 1), "b/0.png", "b/1.png", "b/2.png")},
        PAIRS,
        options=("--images", "a/{id}_rgb.jpg", "--masks", "b/{id}.png"),
    ),
    # lists
    "breed": Case(listed("filename,breed", TWO), LABELLED, ("breed (label)",), source="labels.csv"),
    "a label of any name": Case(listed("filename,what_it_is", TWO), LABELLED, source="labels.csv"),
    "no label is recognised": Case(
        listed("filename,a,b", [f"x{n},y{n % 2}" for n in range(6)]),
        words=("no column is recognised as the label", "--label-column"),
        source="labels.csv",
        settled=(("--label-column", "b"), {"": ("classification", ("y0", "y1"), 6)}),
    ),
    "phase": Case(
        listed("filename,label,phase", [f"{label},{'train' if n < 4 else 'val'}" for n, label in enumerate(TWO)]),
        {"train": ("classification", CATS, 4), "val": ("classification", CATS, 2)},
        ("phase (split)",),
        source="labels.csv",
    ),
    "is_valid": Case(
        listed("filename,label,is_valid", [f"{label},{n >= 4}" for n, label in enumerate(TWO)]),
        {"train": ("classification", CATS, 4), "val": ("classification", CATS, 2)},
        source="labels.csv",
    ),
    "one-hot": Case(
        listed("image,MEL,NV", ["1.0,0.0", "0.0,1.0"] * 3),
        {"": ("classification", ("MEL", "NV"), 6)},
        ("MEL (label)",),
        source="labels.csv",
    ),
    "several ones": Case(
        listed("image,scab,rust", ["1,0", "1,1"] * 3), {"": ("multilabel", ("scab", "rust"), 6)}, source="labels.csv"
    ),
    "ids": Case(
        listed("id_code,diagnosis", ["0", "1"] * 3, folder="train/", names=[str(n) for n in range(6)]),
        {"": ("classification", ("0", "1"), 6)},
        ("0 is train/0.jpg",),
        source="labels.csv",
    ),
    "in a subfolder": Case(listed("filename,label", TWO, folder="images/"), LABELLED, source="labels.csv"),
    "blank after the comma": Case(
        listed("filename, label", [f" {each}" for each in TWO]), LABELLED, source="labels.csv"
    ),
    "CRLF and a byte order mark": Case(
        {**listed("path,label", TWO), "labels.csv": windows(listed("path,label", TWO)["labels.csv"])},
        LABELLED,
        source="labels.csv",
    ),
    "absolute paths of another machine": Case(
        listed("path,label", TWO, names=[f"/home/anna/pics/{name}" for name in NAMES]), LABELLED, source="labels.csv"
    ),
    "several labels by bars": Case(
        listed("path,labels", ["cat|dog", "dog", "cat", "cat|owl", "owl", "dog|owl"]),
        words=("'cat|dog'", "several labels", "--targets multi-label --separator '|'"),
        source="labels.csv",
        settled=(("--separator", "|"), {"": ("multilabel", ("cat", "dog", "owl"), 6)}),
    ),
    "several labels by blanks": Case(
        listed("image_name,tags", TAGS),
        words=("several labels",),
        source="labels.csv",
        settled=(("--targets", "class"), {"": ("classification", tuple(sorted(TAGS)), 6)}),
    ),
    "floats": Case(
        listed("path,age", ["0.0025", "23.5", "1.5", "2.5", "3.25", "4.5"]),
        words=("not whole numbers", "--targets number"),
        source="labels.csv",
        options=("--label-column", "age"),
        settled=(("--label-column", "age", "--targets", "number"), {"": ("regression", (), 6)}),
    ),
    "numbers with gaps": Case(
        listed("path,label", ["18", "25", "31", "47", "60", "72"]),
        words=("have gaps", "predict them as numbers (--targets number)"),
        source="labels.csv",
        settled=(("--targets", "class"), {"": ("classification", ("18", "25", "31", "47", "60", "72"), 6)}),
    ),
    "captions": Case(
        listed("path,caption", [f"a cat number {n}" for n in range(6)]),
        source="labels.csv",
        options=("--label-column", "caption", "--targets", "caption"),
        sets={"": ("captions", (), 6)},
    ),
    "a list in the folder": Case(listed("filename,label", TWO), LABELLED, ("labels.csv names the images",)),
    "Kaggle": Case(
        {
            **images(*(f"train/a{n}.jpg" for n in range(4)), *(f"test/b{n}.jpg" for n in range(4))),
            "train.csv": rows("image,label", *(f"a{n},{CATS[n % 2]}" for n in range(4))),
            "sample_submission.csv": rows("image,label", *(f"b{n},cat" for n in range(4))),
        },
        {"": ("classification", CATS, 4)},
        ("train.csv", "Left out: 4 images that no list"),
    ),
    "a list beside class folders": Case(
        {**images(*PETS), "labels.csv": rows("path,age", *(f"{path},{n % 2}" for n, path in enumerate(PETS)))},
        words=("labels.csv names these images, but is not used",),
        settled=(("--layout", "classes"), {"": ("classification", CATS, 4)}),
    ),
    # masks
    "0 and 255": Case(
        {**images("images/0.jpg", "images/1.jpg"), **masks((0, 255), "masks/0.png", "masks/1.png")},
        words=("label ids 0 and 255", "--map-ids binary"),
        settled=(("--map-ids", "binary"), {"": ("segmentation", (), 2)}),
    ),
    "gaps": Case(
        {**images("images/0.jpg"), **masks((0, 38, 75), "masks/0.png")},
        words=("large gaps (0, 38, 75)", "--map-ids"),
        settled=(("--map-ids", "38=1,75=2"), {"": ("segmentation", (), 1)}),
    ),
    "beyond the classes": Case(
        {**images("images/0.jpg"), **masks((0, 1, 7), "masks/0.png"), "classes.txt": b"sky\nroad\n"},
        words=("label ids 7, but there are 2 classes", "--ignore-index"),
        settled=(("--ignore-index", "7"), {"": ("segmentation", ("sky", "road"), 1)}),
    ),
    "colours": Case(
        {**images("images/0.jpg"), "masks/0.png": image_of("0.png", 3)}, words=("is a mask of colours", "--palette")
    ),
    # trees of well-known data sets
    "Cityscapes label ids": Case(
        {
            **images("leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"),
            **masks((7, 26, 3), "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"),
        },
        {"train": ("segmentation", ("road",) + ("",) * 18, 1)},
        ("become the 19 train ids",),
    ),
    "Roboflow's COCO export": Case(
        {
            **images("train/0.jpg", "valid/0.jpg"),
            **dict.fromkeys(("train/_annotations.coco.json", "valid/_annotations.coco.json"), coco()),
        },
        {"train": ("segmentation", ("background", "crack"), 1), "valid": ("segmentation", ("background", "crack"), 1)},
    ),
    "COCO without sizes, named with the folder": Case(
        {
            **images("images/0.jpg"),
            "annotations/instances_train.json": coco("images/", id=1.0, height=None, width=None),
        },
        {"train": ("segmentation", ("background", "crack"), 1)},
    ),
    "CamVid": Case(
        {
            **images("train/0001TP_0.png", "val/0016E5_0.png"),
            **masks((0, 11), "trainannot/0001TP_0.png", "valannot/0016E5_0.png"),
        },
        {split: ("segmentation", ("sky",) + ("",) * 10, 1) for split in ("train", "val")},
        ("Found CamVid",),
    ),
    "ADE20K": Case(
        {
            **images("ADE/images/training/0.jpg", "ADE/images/validation/0.jpg"),
            **masks((0, 1, 2), "ADE/annotations/training/0.png", "ADE/annotations/validation/0.png"),
            "ADE/objectInfo150.txt": b"Idx\tRatio\tName\n1\t0.1\twall\n2\t0.1\tbuilding, edifice\n",
        },
        {split: ("segmentation", ("wall", "building, edifice"), 1) for split in ("training", "validation")},
        ("becomes 255",),
    ),
    "Oxford-IIIT Pet": Case(
        {
            **images("images/abyssinian_1.jpg", "images/beagle_1.jpg", "images/unlisted_1.jpg"),
            **masks((1, 2, 3), "annotations/trimaps/abyssinian_1.png", "annotations/trimaps/beagle_1.png"),
            "annotations/trainval.txt": b"abyssinian_1 1 1 1\n",
            "annotations/test.txt": b"beagle_1 5 2 1\n",
        },
        {split: ("segmentation", ("pet", "background", "border"), 1) for split in ("trainval", "test")},
        ("trimap values",),
    ),
    "ISIC": Case(
        {
            **images(*(f"ISIC_2019_Training_Input/ISIC_{n}.jpg" for n in range(4))),
            "ISIC_2019_Training_GroundTruth.csv": rows(
                "image,MEL,NV", *(f"ISIC_{n},{n % 2}.0,{1 - n % 2}.0" for n in range(4))
            ),
        },
        {"": ("classification", ("MEL", "NV"), 4)},
    ),
    "ImageNet": Case(
        {
            **images(
                *(f"ILSVRC/Data/CLS-LOC/train/n0{c}/n0{c}_{n}.JPEG" for c in (1, 2) for n in range(2)),
                "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_1.JPEG",
            ),
            "LOC_val_solution.csv": rows("ImageId,PredictionString", "ILSVRC2012_val_1,n02 1 2 3 4"),
        },
        {"train": ("classification", ("n01", "n02"), 4), "val": ("classification", ("n01", "n02"), 1)},
    ),
    "VOC with PNG images": Case(
        {
            **images("JPEGImages/a.png"),
            **masks((0, 1, 255), "SegmentationClass/a.png"),
            "ImageSets/Segmentation/train.txt": b"\xef\xbb\xbfa\r\n",
        },
        {"train": ("segmentation", ("background",) + ("",) * 20, 1)},
    ),
    "YOLO": Case({**images("images/0.jpg"), "labels/0.txt": b"0 0.5 0.5 1 1\n"}, words=("YOLO", "--layout flat")),
    "Label Studio": Case(
        {**images("images/0.jpg"), "export.json": b'[{"annotations": [{"result": [{"from_name": "x"}]}]}]'},
        words=("Label Studio", "--layout flat"),
    ),
    # trees of class folders
    "numbers": Case(
        images(*(f"{n}/{i}.jpg" for n in (0, 1, 2, 10) for i in range(2))),
        {"": ("classification", ("0", "1", "10", "2"), 8)},
        ("--numeric-order",),
        settled=(("--numeric-order",), {"": ("classification", ("0", "1", "2", "10"), 8)}),
    ),
}
