"""Several classes, numbers and captions as targets, from a list or from tars to a training step."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset, ShardSamples, SkipRules, classify, pack
from mps_shards.errors import ConfigError, DecodeError
from tests.support.foreign import by_tarfile
from tests.support.images import tiny_jpeg


def npy(*values: float) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values))
    return stream.getvalue()


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Write tars as img2dataset does: an image, its caption, and metadata."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for shard in range(2):
        samples: dict[str, dict[str, bytes]] = {}
        for number in range(shard * 4, shard * 4 + 4):
            held = {"age": 20 + number / 2, "id": 10**12 + number, "pose": [number, 0.5], "note": f"n{number}"}
            samples[f"{number:09d}"] = {
                "jpg": tiny_jpeg(number),
                "txt": f"picture {number} ü".encode(),
                "json": json.dumps(held).encode(),
                "cls": str(number % 2).encode(),
                "npy": npy(number, 1),
            }
        by_tarfile(folder / f"{shard:05d}.tar", samples)
    return folder


FIELDS = {
    "image": "jpg",
    "caption": "txt",
    "age": "json:age",
    "id": "json:id:int",
    "pose": "json:pose",
    "note": "json:note",
    "label": "cls",
    "vector": "npy",
}


def plain(batch: Any) -> Any:
    """Convert tensors to lists, and tuples to lists, as a DataLoader does."""
    if isinstance(batch, dict):
        return {name: plain(value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return [plain(value) for value in batch]
    return batch.tolist() if isinstance(batch, torch.Tensor) else batch


def everywhere(data: ShardDataset) -> list[Any]:
    """Return the batches, after checking that a plain loop, threads and DataLoader workers give the same."""
    wanted = list(data)
    for loader in (
        DeviceLoader(data, device="cpu", num_threads=2, transfer="inline"),
        DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"),
    ):
        data.set_epoch(0)
        for one, other in zip(wanted, loader, strict=True):
            assert plain(one) == plain(other)
    return wanted


def test_captions_of_foreign_tars_are_lists_of_texts(tars: Path):
    data = ShardDataset(tars, batch_size=3, target="txt", keys=True, transform=classify.train(8))

    images, captions, keys = everywhere(data)[0]

    assert data.task == "captions" and images.shape == (3, 3, 8, 8)
    assert captions == [f"picture {number} ü" for number in range(3)]
    assert keys == [f"{number:09d}" for number in range(3)] and all(type(key) is str for key in keys)
    assert next(iter(ShardDataset(tars, batch_size=None, target="txt")))[1] == "picture 0 ü"


def test_several_fields_are_delivered_by_name(tars: Path):
    batch = everywhere(ShardDataset(tars, batch_size=4, fields=FIELDS, transform=classify.train(8), keys=True))[1]

    assert list(batch) == [*FIELDS, "key"]
    assert batch["image"].shape == (4, 3, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["caption"] == [f"picture {number} ü" for number in range(4, 8)]
    assert batch["age"].dtype == torch.float32 and batch["age"].tolist() == [22.0, 22.5, 23.0, 23.5]
    assert batch["id"].dtype == torch.int64 and batch["id"].tolist() == [10**12 + number for number in range(4, 8)]
    assert batch["pose"].tolist() == [[number, 0.5] for number in range(4, 8)]
    assert batch["note"] == [f"n{number}" for number in range(4, 8)]
    assert batch["label"].dtype == torch.int64 and batch["label"].tolist() == [0, 1, 0, 1]
    assert batch["vector"].tolist() == [[number, 1] for number in range(4, 8)]


def test_a_single_sample_has_single_values_and_no_lists(tars: Path):
    sample = next(iter(ShardDataset(tars, batch_size=None, fields=FIELDS, keys=True)))

    assert sample["image"].ndim == 3 and sample["caption"] == "picture 0 ü" and sample["key"] == "000000000"
    assert sample["age"].item() == 20.0 and sample["note"] == "n0"


def test_missing_and_malformed_values_follow_the_policy(tars: Path):
    by_tarfile(
        tars / "9.tar",
        {
            "a": {"jpg": tiny_jpeg(0), "txt": b"no numbers"},
            "b": {"jpg": tiny_jpeg(0), "txt": b"fine", "json": b'{"age": 1}'},
            "c": {"jpg": tiny_jpeg(0), "txt": b"not one", "json": b'{"age": {}}'},
            "d": {"jpg": tiny_jpeg(0), "txt": b"\xff", "json": b'{"age": 1}'},
        },
    )
    fields = {"image": "jpg", "caption": "txt", "age": "json:age"}

    with pytest.raises(DecodeError, match=r"sample 'a' of shard 9\.tar has no json"):
        list(ShardDataset(tars, batch_size=4, fields=fields))
    skipping = ShardDataset(tars, batch_size=4, fields=fields, on_bad_sample=SkipRules(max_bad=None))
    *_, last = skipping

    assert last["caption"] == ["fine"] and last["age"].tolist() == [1.0]
    assert [skip.key for skip in skipping.skipped.first] == ["a", "c", "d"]
    assert "age is '{}', which is not a number" in skipping.skipped.first[1].reason
    assert "not UTF-8" in skipping.skipped.first[2].reason


def written(folder: Path, lines: str, **options: Any) -> Path:
    (folder / "imgs").mkdir(parents=True)
    for number in range(8):
        (folder / "imgs" / f"{number}.jpg").write_bytes(tiny_jpeg(number))
    (folder / "imgs" / "labels.csv").write_text(lines)
    return pack(folder / "imgs" / "labels.csv", folder / "set", shuffle=False, **options).out


def test_a_list_with_several_classes_per_image_trains_a_multi_hot_loss(tmp_path: Path):
    tags = ["smiling|young", "hat", "young", "hat|smiling|young", "hat", "hat", "smiling", "hat|young"]
    shards = written(
        tmp_path, "path,labels\n" + "".join(f"{n}.jpg,{tag}\n" for n, tag in enumerate(tags)), separator="|"
    )
    data = ShardDataset(shards, batch_size=4, transform=classify.train(8))

    (images, targets), *_ = everywhere(data)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(images.mean((2, 3)), targets)

    assert data.task == "multilabel" and data.classes == ["hat", "smiling", "young"]
    assert targets.dtype == torch.float32 and loss.isfinite()
    assert targets.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]]
    assert ShardSamples(shards)[3][1].tolist() == [1, 1, 1]


def test_a_list_with_numbers_trains_a_regression(tmp_path: Path):
    shards = written(
        tmp_path,
        "path,age\n" + "".join(f"{n}.jpg,{20.5 + n}\n" for n in range(8)),
        label_column="age",
        targets="number",
    )
    data = ShardDataset(shards, batch_size=4, transform=classify.train(8))

    (images, targets), *_ = everywhere(data)
    loss = torch.nn.functional.mse_loss(images.mean((1, 2, 3))[:, None], targets)

    assert data.task == "regression" and data.columns == ["age"] and loss.isfinite()
    assert targets.dtype == torch.float32 and targets.tolist() == [[20.5], [21.5], [22.5], [23.5]]


def test_a_list_with_captions_gives_texts(tmp_path: Path):
    lines = "path,caption\n" + "".join(f"{n}.jpg,a dog and {n} cats\n" for n in range(8))
    shards = written(tmp_path, lines, label_column="caption", targets="caption")
    data = ShardDataset(shards, batch_size=4)

    assert data.task == "captions"
    assert everywhere(data)[1][1] == [f"a dog and {n} cats" for n in range(4, 8)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"caption": "txt"}}, "fields must name the image"),
        ({"fields": {"image": "jpg", "x": "mp4"}}, r"fields\['x'\]='mp4' is not supported: give \"cls\""),
        ({"fields": {"image": "jpg", "x": "a.png", "y": "b.png"}}, "2 label maps"),
        ({"fields": ["image"]}, r"fields must be \{name: field\}"),
        ({"fields": {"image": "jpg"}, "target": "cls"}, "leave out image= and target="),
        ({"target": len}, 'target must name a field, such as target="json:label"'),
    ],
)
def test_invalid_fields_are_refused(tars: Path, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        ShardDataset(tars, batch_size=2, **options)
