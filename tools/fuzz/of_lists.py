"""Fuzz target: untrusted lists and annotations (CSV, TSV, JSONL, metadata files and COCO) beside real images."""

import contextlib
import json
import shutil

from mps_shards.errors import ShardsError
from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.source_choice import open_source
from tools.fuzz.examples import folder

__all__ = ["check", "seeds"]

_FILES = (
    "list.csv",
    "list.tsv",
    "list.jsonl",
    "metadata.csv",
    "metadata.jsonl",
    "classes.txt",
    "annotations/instances_train.json",
)


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the file, then the content of the file."""
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "area": 2.5, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 3]]}
        ],
        "categories": [{"id": 7, "name": "cat"}],
    }
    return [
        b"\0path,label,split,mask\na.jpg,cat,train,\ncat/b.png,dog,val,\n",
        b"\0a.jpg,0\ncat/b.png,1\n",
        b"\1path\tlabel\na.jpg\t3\n",
        b'\2{"path": "a.jpg", "label": "cat", "note": {"x": [1, null]}}\n{"path": "cat/b.png", "label": 1}\n',
        b"\3file_name,label\na.jpg,1\n",
        b'\4{"file_name": "../a.jpg", "label": -1}\n',
        b"\5cat\ndog\n",
        b"\6" + json.dumps(coco).encode(),
    ]


def check(data: bytes) -> None:
    """Check that a listing has each image of the folder once per split, with existing classes, or is refused."""
    root = folder() / "described"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("a.jpg", "cat/b.png", "train/a.jpg", "train2017/a.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff")
    path = root / _FILES[(data[0] if data else 0) % len(_FILES)]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data[1:])
    with contextlib.suppress(ShardsError):
        listing = open_source(path if path.name.startswith("list") else root).listing(SourceOptions())
        for split in listing.splits:
            paths = [entry.path for entry in split.entries]
            assert len(set(paths)) == len(paths) > 0
            assert all((root / path).resolve().is_relative_to(root.resolve()) for path in paths)
            assert all(-1 <= entry.label < max(len(listing.classes), 1 << 31) for entry in split.entries)
