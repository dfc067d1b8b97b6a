"""Trees of files with more information than their folders or their list; see `brought_trees`."""

import json
import unicodedata

import numpy as np
from PIL import Image

from tests.support.brought_trees import CATS, NAMES, PETS, TWO, Case, Files, coco, images, jpeg, listed, masks, rows
from tests.support.images import encoded

_FLAT = (("--layout", "flat"), {"": ("unlabeled", (), 6)})
_LABELLED = {"": ("classification", CATS, 6)}


def _flat_beside(name: str, content: bytes) -> Case:
    """Return a flat folder with a file of labels that `pack` does not read."""
    return Case(
        {**images(*NAMES), name: content},
        words=(f"the images would get no labels, though {name} looks like an annotation file", "--layout flat"),
        settled=_FLAT,
    )


def _one_class(folder: str, beside: Files) -> Case:
    """Return a single folder of images beside annotations that `pack` does not read."""
    return Case(
        {**images(f"{folder}/0.jpg", f"{folder}/1.jpg"), **beside},
        words=(f"all images are in one class, {folder}", "--layout flat"),
        settled=(("--layout", "flat"), {"": ("unlabeled", (), 2)}),
    )


def _animation() -> bytes:
    frames = [Image.fromarray(np.full((24, 32), value, np.uint8)) for value in (0, 9)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


_XML = b"<annotation><object><name>cat</name></object></annotation>"
_READ_ME = {"README.md": b"about", "LICENSE.txt": b"free", "requirements.cfg": b"x"}

DOUBTFUL = {
    # labels in a file that is not read
    "labels in a text file": _flat_beside("train.txt", b"0 3\n1 4\n"),
    "labels in a workbook": _flat_beside("labels.xlsx", b"PK\3\4"),
    "labels in a pickle": _flat_beside("labels.pkl", b"\x80\4"),
    "labels in an array": _flat_beside("labels.npy", b"\x93NUMPY"),
    "a flat folder with what every download holds": Case(
        {**images(*NAMES), **_READ_ME}, {"": ("unlabeled", (), 6)}, ("Left out: 3 files",)
    ),
    "MOT": Case(
        {
            **images("MOT17-02/img1/0.jpg"),
            "MOT17-02/gt/gt.txt": b"1,1,1,1,2,2\n",
            "MOT17-02/seqinfo.ini": b"[Sequence]\n",
        },
        words=("seqinfo.ini belongs to tracks of MOTChallenge", "--layout flat"),
        settled=(("--layout", "flat"), {"": ("unlabeled", (), 1)}),
    ),
    "tracks of an unknown kind": _one_class("img1", {"gt/gt.txt": b"1,1,1,1,2,2,1,1,1\n"}),
    "DOTA": Case(
        {**images("images/0.png"), "labelTxt/0.txt": b"imagesource:x\ngsd:1\n1 1 2 1 2 2 1 2 plane 0\n"},
        words=("labelTxt belongs to boxes of DOTA",),
    ),
    "CVAT": Case(
        {**images("images/0.png"), "annotations.xml": b'<?xml version="1.0"?><annotations></annotations>'},
        words=("annotations.xml belongs to annotations of CVAT",),
    ),
    "Supervisely": Case(
        {**images("ds0/img/0.jpg"), "ds0/ann/0.jpg.json": b"{}", "meta.json": b'{"classes": [], "tags": []}'},
        words=("meta.json belongs to annotations of Supervisely",),
    ),
    "boxes of VOC": _one_class("JPEGImages", {"Annotations/0.xml": _XML, "ImageSets/Main/train.txt": b"0\n"}),
    "labels of Flowers": _one_class("jpg", {"imagelabels.mat": b"MATLAB"}),
    "CelebA": _one_class("img_align_celeba", {"list_attr_celeba.txt": b"1\nMale\n0.jpg 1\n"}),
    "splits of CelebA": _one_class("img_align_celeba", {"list_eval_partition.txt": b"0.jpg 0\n1.jpg 1\n"}),
    "one folder named after its files": _one_class("JPEG_1", {}),
    "one class": Case(images("cat/0.jpg", "cat/1.jpg"), {"": ("classification", ("cat",), 2)}, ("Classes (1)",)),
    # lists of splits, also beside the folder that holds the classes
    "CUB": Case(
        {
            **images(*(f"images/{path}" for path in PETS)),
            "classes.txt": b"1 cat\n2 dog\n",
            "train_test_split.txt": b"1 1\n",
        },
        words=("train_test_split.txt looks like the list of a split, but is not used", "Left out: 2 files"),
        settled=(("--yes",), {"": ("classification", CATS, 4)}),
    ),
    "Food-101": Case(
        {**images(*(f"images/{path}" for path in PETS)), "meta/test.txt": b"cat/0\n", "meta/classes.txt": b"cat\n"},
        words=("meta/test.txt looks like the list of a split",),
        settled=(("--yes",), {"": ("classification", CATS, 4)}),
    ),
    "a list beside the wrapper": Case(
        {
            **images(*(f"pets/{path}" for path in PETS)),
            "labels.csv": rows("path,label", *(f"pets/{path},x{n % 2}" for n, path in enumerate(PETS))),
        },
        words=("labels.csv names these images, but is not used",),
    ),
    # trees with folders in folders
    "two levels of classes": Case(
        images(*(f"{outer}/{inner}/0.jpg" for outer, inner in (("pets", "cat"), ("pets", "dog"), ("cars", "bus")))),
        words=(
            "folders of folders (cars/bus ...)",
            "make the outer folders the classes (--layout classes: cars, pets)",
        ),
        settled=(("--layout", "classes"), {"": ("classification", ("cars", "pets"), 3)}),
    ),
    "one folder inside of each class": Case(
        images(*(f"{label}/images/{n}.jpg" for label in ("cat", "dog") for n in range(2))),
        {"": ("classification", CATS, 4)},
        ("Classes (2)",),
    ),
    # trees with names without an extension
    "no extensions": Case(
        {f"{label}/{n}": jpeg(n) for label in CATS for n in range(2)},
        words=("cat/0 begins like an image, so give such files an extension",),
    ),
    "some without extension": Case(
        {**images(*PETS), "cat/2": jpeg(9), "dog/Makefile": b"all:"},
        words=("cat/2 begins like an image, but has no extension, so this file and others like it are left out",),
        settled=(("--yes",), {"": ("classification", CATS, 4)}),
    ),
    # cells
    "two columns of images": Case(
        listed("image,second,label", [f"{name},{label}" for name, label in zip(NAMES[::-1], TWO, strict=True)]),
        words=("column 'second' names images too, which would be left out", "--mask-column second"),
        source="labels.csv",
        options=("--label-column", "label"),
        settled=(("--image-column", "image"), _LABELLED),
    ),
    "a comma at the end of each line": Case(
        {**listed("path,label", TWO), "labels.csv": listed("path,label", TWO)["labels.csv"].replace(b"\n", b",\n")},
        _LABELLED,
        source="labels.csv",
    ),
    "a comma without quotes": Case(
        listed("path,label", ["cat, black", "dog"] * 3),
        words=("labels.csv:2: 3 cells, but line 1 has 2 columns (path, label)", "quotes around a cell with ','"),
        source="labels.csv",
    ),
    "a path twice in JSON": Case(
        {**images(*NAMES), "labels.json": b'{"0.jpg": "cat", "1.jpg": "dog", "0.jpg": "dog"}'},
        words=("labels.json names '0.jpg' twice in one object",),
        source="labels.json",
    ),
    "a missing label": Case(
        listed("path,label", ["cat", "dog", "NaN", "cat", "dog", "NaN"]),
        words=("2 images with 'NaN' in column 'label' would get a class of this name", "--targets class"),
        source="labels.csv",
        settled=(("--targets", "class"), {"": ("classification", ("NaN", "cat", "dog"), 6)}),
    ),
    "lists written as text": Case(
        listed("path,labels", ["\"['cat', 'dog']\"", "['dog']"] * 3),
        words=("look like lists", "--targets class"),
        source="labels.csv",
    ),
    "two spellings of a label": Case(
        listed("path,label", ["Cat", "cat", "dog"] * 2),
        words=("the labels 'Cat' and 'cat' in column 'label' differ only in upper and lower case",),
        source="labels.csv",
        settled=(("--targets", "class"), {"": ("classification", ("Cat", "cat", "dog"), 6)}),
    ),
    "masks of gray levels": Case(
        {**images("images/0.jpg"), **masks(tuple(range(0, 256, 8)), "masks/0.png")},
        words=("large gaps (0, 8, 16",),
        settled=(("--yes",), {"": ("segmentation", (), 1)}),
    ),
    "an animation": Case(
        {**images("cat/0.jpg"), "dog/1.gif": _animation()},
        {"": ("classification", CATS, 2)},
        ("1 of 2 images have several frames or pages; training gets the first one",),
    ),
    "no image of class 0": Case(
        listed("path,label", ["1", "2", "4"] * 2),
        {"": ("classification", ("0", "1", "2", "3", "4"), 6)},
        ("class indices from 1 to 4; no image has 0, 3",),
        source="labels.csv",
    ),
    "negative labels": Case(
        listed("path,label", ["-1", "0", "1"] * 2),
        words=("labels.csv:2: label '-1' is not a class index", "--targets class makes a class of each value"),
        source="labels.csv",
        settled=(("--targets", "class"), {"": ("classification", ("-1", "0", "1"), 6)}),
    ),
    "decimal commas": Case(
        {**images(*NAMES), "labels.csv": b"path;age\n" + b"".join(b"%d.jpg;%d,5\n" % (n, n) for n in range(6))},
        words=("labels.csv:2: age is '0,5', which is not a number (decimals need a point)",),
        source="labels.csv",
        options=("--targets", "number"),
    ),
    "numbers in the only other column": Case(
        listed("path,age", [f"{n}.5" for n in range(6)]),
        {"": ("regression", (), 6)},
        source="labels.csv",
        options=("--targets", "number"),
    ),
    "a box in each row": Case(
        listed("path,label,xmin", [f"{each},3" for each in TWO], names=["0.jpg", "0.jpg", *NAMES[:4]]),
        words=("0.jpg is named by two rows of one split", "boxes as COCO"),
        source="labels.csv",
    ),
    # files with other paths or names
    "images beside the folder of the list": Case(
        {
            **images(*(f"pics/{name}" for name in NAMES)),
            "lists/all.csv": rows("path,label", *(f"{n}.jpg,{TWO[n]}" for n in range(6))),
        },
        _LABELLED,
        source="lists/all.csv",
        options=("--root", "../pics"),
    ),
    "images elsewhere, and no root": Case(
        {**images(*(f"pics/{name}" for name in NAMES)), "lists/all.csv": rows("path,label", "0.jpg,cat", "1.jpg,dog")},
        words=("all.csv:2: there is no file",),
        source="lists/all.csv",
    ),
    "names of macOS in a list of Windows": Case(
        {
            **images(*NAMES[1:], unicodedata.normalize("NFD", "größe.jpg")),
            "all.csv": rows(
                "path,label", f"{unicodedata.normalize('NFC', 'größe.jpg')},cat", *(f"{n}.jpg,dog" for n in range(1, 6))
            ),
        },
        _LABELLED,
        source="all.csv",
    ),
    "a placeholder of iCloud": Case(
        {**images(*PETS), "cat/.2.jpg.icloud": b"bplist00"},
        words=("cat/.2.jpg.icloud is in iCloud only; download it",),
        settled=(("--on-bad-sample", "skip"), {"": ("classification", CATS, 4)}),
    ),
    "a column of splits alone": Case(
        listed("image_id,partition", [f"{n % 3}" for n in range(6)]),
        words=("no column is recognised as the label", "--label-column"),
        source="labels.csv",
    ),
}

_TABLE = rows("path,label", *(f"{name},{label}" for name, label in zip(NAMES, TWO, strict=True)))


def _table(name: str, content: bytes) -> Case:
    return Case({**images(*NAMES), name: content}, _LABELLED, ("(label)",), source=name)


# Lists in the formats of various programs, all with the same content.
LISTS = {
    "UTF-16": _table("labels.csv", _TABLE.decode().encode("utf-16")),
    "Excel's separator line": _table("labels.csv", b"sep=;\r\n" + _TABLE.replace(b",", b";")),
    "semicolons": _table("labels.csv", _TABLE.replace(b",", b";")),
    "tabs in a .csv": _table("labels.csv", _TABLE.replace(b",", b"\t")),
    "a column that counts the rows": _table(
        "labels.csv", rows(",path,label", *(f"{n},{n}.jpg,{TWO[n]}" for n in range(6)))
    ),
    "text": _table("train.txt", _TABLE.replace(b"path,label\n", b"").replace(b",", b" ")),
    "text with commas": _table("train.txt", _TABLE),
    "JSON by path": _table("labels.json", json.dumps(dict(zip(NAMES, TWO, strict=True))).encode()),
    "JSON by path, in objects": _table(
        "labels.json", json.dumps({name: {"label": each} for name, each in zip(NAMES, TWO, strict=True)}).encode()
    ),
    "JSON rows": _table(
        "labels.json",
        json.dumps([{"file": name, "label": each} for name, each in zip(NAMES, TWO, strict=True)]).encode(),
    ),
    "JSON in the folder": Case(
        {**images(*NAMES), "labels.json": json.dumps(dict(zip(NAMES, TWO, strict=True))).encode()},
        _LABELLED,
        ("labels.json names the images",),
    ),
    "text in the folder": Case(
        {**images(*NAMES), "all.txt": _TABLE.replace(b"path,label\n", b"").replace(b",", b" ")},
        _LABELLED,
        ("all.txt names the images",),
    ),
    "a list for each split": Case(
        {
            **images(*NAMES),
            "train.csv": rows("path,label", "0.jpg,cat", "1.jpg,dog"),
            "val.csv": rows("path,label", "2.jpg,dog"),
        },
        {"train": ("classification", CATS, 2), "val": ("classification", CATS, 1)},
        ("train.csv, val.csv name the images of the splits", "Left out: 3 images that no list"),
    ),
    "UTF-16 without a mark": Case(
        {**images(*NAMES), "labels.csv": _TABLE.decode().encode("utf-16-le")},
        words=("labels.csv holds null bytes", "save it as UTF-8"),
        source="labels.csv",
    ),
    "a list of another code page": Case(
        {**images(*NAMES), "labels.csv": _TABLE.replace(b"dog", b"caf\xe9")},
        words=("labels.csv is not UTF-8", "save it as UTF-8"),
        source="labels.csv",
    ),
    "COCO as a list": Case(
        {**images(*NAMES), "instances.json": coco()},
        words=("instances.json is a COCO annotation file; pack the folder",),
        source="instances.json",
    ),
    "text that is no list": Case(
        {**images(*NAMES), "notes.txt": b"hello\n"},
        words=("notes.txt:1: 'hello' is neither a path",),
        source="notes.txt",
    ),
}
