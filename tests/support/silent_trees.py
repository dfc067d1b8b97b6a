"""Trees of which a part would be lost without a word; see `brought_trees`."""

import json

import numpy as np
from PIL import Image

from tests.support.brought_trees import CATS, NAMES, PETS, TWO, Case, coco, images, listed, rows
from tests.support.images import encoded


def _coco(**changes: object) -> bytes:
    return json.dumps({**json.loads(coco()), **changes}).encode()


_GRAY_LEVELS = encoded(Image.fromarray((np.arange(24 * 32) % 256).astype(np.uint8).reshape(24, 32)), "PNG")

_COLOURS = encoded(Image.new("RGB", (32, 24), (64, 128, 64)), "PNG")

SILENT = {
    "CamVid with masks of colours": Case(
        {
            **images("train/0001TP_0.png", "val/0001TP_1.png"),
            **dict.fromkeys(("train_labels/0001TP_0_L.png", "val_labels/0001TP_1_L.png"), _COLOURS),
            "class_dict.csv": b"name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\n",
        },
        words=("is a mask of colours", "--palette"),
    ),
    # annotations of COCO
    "COCO without annotations": Case(
        {**images("0.jpg"), "annotations.json": _coco(annotations=[])},
        words=("annotations.json holds no annotations, so its images would be all background", "--layout flat"),
        settled=(("--layout", "flat"), {"": ("unlabeled", (), 1)}),
    ),
    "COCO with captions": Case(
        {
            **images("0.jpg"),
            "annotations.json": _coco(annotations=[{"id": 1, "image_id": 1, "caption": "a cat"}], categories=[]),
        },
        words=("annotations.json holds captions, not outlines of objects", "--targets caption"),
    ),
    "two categories of one name": Case(
        {**images("0.jpg"), "annotations.json": _coco(categories=[{"id": n, "name": "cat"} for n in (3, 4)])},
        words=("several classes have the name 'cat'",),
        settled=(("--yes",), {"": ("segmentation", ("background", "cat", "cat"), 1)}),
    ),
    "an annotation without an outline": Case(
        {
            **images("0.jpg"),
            "annotations.json": _coco(
                annotations=[
                    *json.loads(coco())["annotations"],
                    {"id": 2, "image_id": 1, "category_id": 3, "segmentation": [], "area": 1, "iscrowd": 0},
                ]
            ),
        },
        {"": ("segmentation", ("background", "crack"), 1)},
        ("1 of 2 annotations in annotations.json have no outline and are not drawn",),
    ),
    "blurred masks": Case(
        {
            **images("images/0.jpg"),
            "masks/0.png": encoded(
                Image.fromarray(np.arange(24 * 32, dtype=np.uint16).astype(np.uint8).reshape(24, 32)), "PNG"
            ),
        },
        words=("masks hold 256 label ids up to 255, as gray levels and blurred edges do", "and 236 more"),
        settled=(("--map-ids", "binary"), {"": ("segmentation", (), 1)}),
    ),
    "a video and a document called .jpg": Case(
        {**images(*PETS), "cat/7.jpg": b"\0\0\0\x20ftypisom" + bytes(9), "dog/8.jpg": b"%PDF-1.4"},
        words=("jpg is a ", "2 images cannot be packed", "--on-bad-sample skip"),
        settled=(("--on-bad-sample", "skip"), {"": ("classification", CATS, 4)}),
    ),
    "one file that is no image": Case(
        {**images(*PETS), "cat/7.jpg": b"%PDF-1.4"},
        words=("cat/7.jpg is a PDF document, not an image", "--on-bad-sample skip leaves it out"),
        settled=(("--on-bad-sample", "skip"), {"": ("classification", CATS, 4)}),
    ),
    # what is not read, among what is
    "folders of systems": Case(
        images(*PETS, "@eaDir/cat/0.jpg", "$RECYCLE.BIN/x.jpg", "cat/.ipynb_checkpoints/0-checkpoint.jpg"),
        {"": ("classification", CATS, 4)},
        ("Classes (2)",),
    ),
    "an archive among the images": Case(
        {**images(*PETS), "more.zip": b"PK\3\4"},
        words=("more.zip is an archive inside the source, which is left out", "unpack the archive"),
        settled=(("--yes",), {"": ("classification", CATS, 4)}),
    ),
    "raw data of a camera": Case(
        {**images(*PETS), "cat/7.NEF": b"II*\0", "cat/8.dcm": b"x", "cat/0.cr2": b"II*\0"},
        words=("cat/7.NEF is an image in a format that is not read, and is left out, as are 1 more", "convert"),
        settled=(("--yes",), {"": ("classification", CATS, 4)}),
    ),
    "members of a WebDataset": Case(
        {**images("0.jpg", "1.jpg"), "0.cls": b"0", "1.cls": b"1"},
        words=("0.cls and other .cls files have the names of images and look like labels of a WebDataset", "index"),
        settled=(("--layout", "flat"), {"": ("unlabeled", (), 2)}),
    ),
    "classes inside of one class": Case(
        images("animal/cat/0.jpg", "animal/dog/0.jpg", "car/0.jpg", "car/1.jpg"),
        words=("the images of animal are in inner folders (cat, dog)", "--layout classes"),
        settled=(("--layout", "classes"), {"": ("classification", ("animal", "car"), 4)}),
    ),
    "two spellings of a class": Case(
        images("Cat/0.jpg", "cat/1.jpg", "dog/2.jpg"),
        words=("the classes 'Cat' and 'cat' differ only in upper and lower case", "--layout classes"),
        settled=(("--layout", "classes"), {"": ("classification", ("Cat", "cat", "dog"), 3)}),
    ),
    "two lists with labels": Case(
        {**listed("path,label", TWO), "train.csv": rows("path,label", *(f"{name},x" for name in NAMES))},
        words=("holds several lists that name its images (labels.csv, train.csv); pack one of them",),
    ),
}
