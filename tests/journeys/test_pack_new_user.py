"""A new user packs a downloaded data set with one line and without options, and trains on it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mps_shards import ShardDataset
from tests.support.images import tiny_jpeg

COMMAND = [sys.executable, "-m", "mps_shards"]


def ran(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_a_zip_with_a_list_from_kaggle_is_packed_and_trained_on(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "dog-breeds.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(30):
            archive.writestr(f"train/{n:04x}.jpg", tiny_jpeg(n))
        for n in range(5):
            archive.writestr(f"test/{100 + n:04x}.jpg", tiny_jpeg(100 + n))
        rows = [f"{n:04x},{('pug', 'boxer', 'collie')[n % 3]}" for n in range(30)]
        archive.writestr("labels.csv", "id,breed\n" + "\n".join(rows))

    said = ran(tmp_path, *COMMAND, "pack", "dog-breeds.zip")

    assert "Columns: id (image), breed (label)" in said.stderr
    assert "5 images that no list or annotation file names" in said.stderr
    data = ShardDataset(tmp_path / "dog-breeds-shards", batch_size=4)
    assert (list(data.classes), data.num_samples) == (["boxer", "collie", "pug"], 30)
    assert ran(tmp_path, *COMMAND, "pack", "dog-breeds.zip/labels.csv", "again").returncode == 0


def test_a_parquet_file_of_the_hugging_face_hub_is_packed_and_trained_on(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    rows = [{"bytes": tiny_jpeg(n), "path": f"{n}.jpg"} for n in range(20)]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"image": pyarrow.array(rows, kind), "label": [n % 2 for n in range(20)]})
    stated = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(stated), tmp_path / "train-00000-of-00001.parquet")

    said = ran(tmp_path, *COMMAND, "pack", "train-00000-of-00001.parquet")

    assert "Classes (2), from column 'label': cat, dog" in said.stderr
    assert list(ShardDataset(tmp_path / "train-00000-of-00001-shards", batch_size=4).classes) == ["cat", "dog"]


def test_a_torchvision_data_set_is_packed_from_python_and_trained_on(tmp_path: Path):
    script = """
from torchvision.datasets import FakeData
from mps_shards import ShardDataset, pack

if __name__ == "__main__":
    report = pack(FakeData(size=40, image_size=(3, 32, 32), num_classes=3), "fake-shards")
    images, targets = next(iter(ShardDataset(report.out, batch_size=8)))
    print(tuple(images.shape), len(report.classes))
"""
    (tmp_path / "pack_it.py").write_text(script)

    said = ran(tmp_path, sys.executable, "pack_it.py")

    assert said.stdout.splitlines()[-1] == "(8, 3, 32, 32) 3"
