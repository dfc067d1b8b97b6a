"""Small input data for pages of the documentation; `run_page` calls these functions by name in the current folder.

python -m tests.docs.setups photos imgs 80      makes the data of a page's setup comment
"""

import atexit
import csv
import io
import json
import os
import sys
import tarfile
import zipfile
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
    folder = Path(archive).with_suffix("")
    make_photos(folder / "all", count=int(count), size=(96, 80), classes=CLASSES)
    files = sorted((folder / "all").rglob("*.jpg"))
    with zipfile.ZipFile(archive, "w") as zipped:
        rows = []
        for number, file in enumerate(files):
            part = "test" if number % 4 == 3 else "train"
            zipped.write(file, f"{part}/{number:04d}.jpg")
            if part == "train":
                rows.append((f"{number:04d}", file.parent.name))
            file.unlink()
        lines = Path(archive).with_suffix(".rows")
        with lines.open("w", newline="") as stream:
            csv.writer(stream).writerows([("id", "label"), *rows])
        zipped.write(lines, "train.csv")
        lines.unlink()


def parquet(path: str, count: str = "40") -> None:
    """A Parquet file as the Hugging Face Hub stores image classification: image {bytes, path}, label, class names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(path).parent / ".photos"
    make_photos(folder, count=int(count), size=(96, 80), classes=CLASSES)
    files = sorted(folder.rglob("*.jpg"))
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
    source = Path(folder) / ".photos"
    make_photos(source, count=int(count), size=(96, 80), classes=CLASSES)
    files = sorted(source.rglob("*.jpg"))
    half = len(files) // 2
    for shard, part in enumerate((files[:half], files[half:])):
        with tarfile.open(Path(folder) / f"{shard:05d}.tar", "w") as tar:
            for number, file in enumerate(part):
                key = f"{shard:05d}{number:04d}"
                caption = f"a photograph of {file.parent.name}"
                members = {
                    "jpg": file.read_bytes(),
                    "txt": caption.encode(),
                    "json": json.dumps(
                        {"caption": caption, "width": 96, "height": 80, "aesthetic": number / 10}
                    ).encode(),
                }
                for field, content in members.items():
                    info = tarfile.TarInfo(f"{key}.{field}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        for file in part:
            file.unlink()


def s3() -> None:
    """An S3 server on this machine with the bucket `stores.BUCKET`, for as long as the page runs."""
    server = stores.moto()
    os.environ.update(stores.environment(server.__enter__()))
    atexit.register(server.__exit__, None, None, None)


MAKERS = {maker.__name__: maker for maker in (photos, splits, camvid, kaggle, parquet, captions)}


def main(arguments: list[str]) -> None:
    """Make the input data of a page by name, for a reader who follows the page."""
    if len(arguments) < 2 or arguments[0] not in MAKERS:
        sys.exit(f"python -m tests.docs.setups KIND PATH [COUNT], where KIND is one of {', '.join(MAKERS)}")
    MAKERS[arguments[0]](*arguments[1:])
    print(f"{arguments[1]}: ready")


if __name__ == "__main__":
    main(sys.argv[1:])
