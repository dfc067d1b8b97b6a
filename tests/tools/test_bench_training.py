"""tools/bench/training.py measures both loaders with a small network on the CPU."""

import json
from pathlib import Path

import pytest

from tools.bench import training


def test_every_loader_is_measured_alone_and_with_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path), "--device", "cpu", "--images", "12"]

    found = training.main([*options, "--network", "squeezenet1_1", "--batch", "4", "--rounds", "1"])

    assert [one["loader"] for one in found] == ["mps-shards", "ImageFolder"]
    assert all(one["of_slower"] == one["both"] / min(one["load"], one["train"]) > 0 for one in found)
    _, *lines = map(json.loads, (tmp_path / "bench_training.jsonl").read_text().splitlines())
    assert [line["loader"] for line in lines] == ["mps-shards", "ImageFolder"]
    assert "squeezenet1_1 on cpu, training alone" in capsys.readouterr().out


def test_fewer_images_than_a_batch_are_an_error():
    with pytest.raises(ValueError, match="fewer images than a batch has"):
        training.rate([], training.keep)
