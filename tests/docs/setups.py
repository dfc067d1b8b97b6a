"""Small data that pages of the documentation start from; `run_page` and `practice` call these by name."""

import atexit
import contextlib
import csv
import io
import json
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tools.scripts.masks import make_masks
from tools.scripts.photos import make_photos
from tools.support import stores

CLASSES = ["brick", "cat", "coffee", "flower"]


def photos(folder: str, count: str = "60") -> None:
    """Photographs in four class folders."""
    make_photos(Path(folder), count=int(count), size=(96, 80), classes=CLASSES)


def splits(folder: str, count: str = "60") -> None:
    """Photographs in split and class folders, train/cat/x.jpg and val/cat/x.jpg."""
    for split, part in (("train", int(count)), ("val", int(count) // 3)):
        make_photos(Path(folder) / split, count=part, size=(96, 80), classes=CLASSES)


def camvid(folder: str, count: str = "20") -> None:
    """Photographs and label maps in sibling folders, images/x.jpg and masks/x.png."""
    make_masks(Path(folder), count=int(count), size=(96, 72))


def kaggle(archive: str, count: str = "40") -> None:
    """A zip with train/ID.jpg, test/ID.jpg and train.csv, which names an id and a label per row."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("id", "label"))
    with photographs(int(count)) as files, zipfile.ZipFile(archive, "w") as zipped:
        for number, file in enumerate(files):
            part = "test" if number % 4 == 3 else "train"
            zipped.write(file, f"{part}/{number:04d}.jpg")
            if part == "train":
                rows.writerow((f"{number:04d}", file.parent.name))
        zipped.writestr("train.csv", table.getvalue())


def parquet(path: str, count: str = "40") -> None:
    """A Parquet file as the Hugging Face Hub stores image classification: image {bytes, path}, label, class names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with photographs(int(count)) as files:
        table = pa.table(
            {
                "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
                "label": [CLASSES.index(file.parent.name) for file in files],
            }
        )
    features = {
        "image": {"_type": "Image"},
        "label": {"names": CLASSES, "_type": "ClassLabel"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path)


def captions(folder: str, count: str = "40") -> None:
    """WebDataset tars as img2dataset writes them: 00000.tar with KEY.jpg, KEY.txt and KEY.json."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with photographs(int(count)) as files:
        half = len(files) // 2
        for shard, part in enumerate((files[:half], files[half:])):
            with tarfile.open(Path(folder) / f"{shard:05d}.tar", "w") as tar:
                for number, file in enumerate(part):
                    caption = f"a photograph of {file.parent.name}"
                    facts = {"caption": caption, "width": 96, "height": 80, "aesthetic": number / 10}
                    members = {"jpg": file.read_bytes(), "txt": caption.encode(), "json": json.dumps(facts).encode()}
                    for field, content in members.items():
                        info = tarfile.TarInfo(f"{shard:05d}{number:04d}.{field}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))


@contextlib.contextmanager
def photographs(count: int) -> Iterator[list[Path]]:
    """Photographs in class folders, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        photos(folder, str(count))
        yield sorted(Path(folder).rglob("*.jpg"))


def s3() -> dict[str, str]:
    """An S3 server on this machine with the bucket `stores.BUCKET`, until this process ends; gives its variables."""
    server = stores.moto()
    variables = stores.environment(server.__enter__())
    os.environ.update(variables)
    atexit.register(server.__exit__, None, None, None)
    return variables
