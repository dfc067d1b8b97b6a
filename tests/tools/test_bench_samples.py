"""tools/bench/samples.py reads the same with both, and its table can be made."""

import json

import pytest
from torchvision import transforms
from torchvision.datasets import ImageFolder

from mps_shards import ShardSamples
from tools.bench import samples as bench_samples
from tools.bench.rivals.pictures import prepared

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def test_a_tiny_round_makes_a_table_and_lines(tmp_path, capsys):
    options = ["--images", "16", "--rounds", "1", "--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    found = bench_samples.main(options)

    _, *lines = map(json.loads, (tmp_path / "bench_samples.jsonl").read_text().splitlines())
    assert lines == json.loads(json.dumps(found))
    assert [(figures["reader"], figures["workers"]) for figures in found] == [
        (reader, workers) for workers in (0, 2) for reader in ("ImageFolder", "ShardSamples")
    ]
    assert all(figures["per_s"]["median"] > 0 and figures["per_cpu_s"]["median"] > 0 for figures in found)
    assert "images per CPU second" in capsys.readouterr().out

    work = prepared("W1", tmp_path / "data", workers=1, images=16)
    small = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(16), transforms.ToTensor()])
    with pytest.raises(ValueError, match="differs"):
        bench_samples.check_same(ImageFolder(str(work.photos), small), ShardSamples(work.shards))
    with pytest.raises(ValueError, match="16 samples, but ShardSamples has 3"):
        bench_samples.check_same(ImageFolder(str(work.photos), small), ShardSamples(work.shards, small)[:3])
