"""tools/bench/resume.py reads what it times, and its tables can be made."""

import json

from mps_shards import ShardDataset
from tools.bench import resume as bench_resume


def test_a_tiny_round_makes_tables_and_lines(tmp_path, capsys):
    options = ["--samples", "1000", "--per-shard", "90", "--rounds", "2", "--plans", "70000"]
    found = bench_resume.main([*options, "--out", str(tmp_path)])

    _, *lines = map(json.loads, (tmp_path / "bench_resume.jsonl").read_text().splitlines())
    assert lines == json.loads(json.dumps(found))
    assert [figures.get("position") for figures in found] == [0, 448, 960, None]
    assert found[2]["replay_s"]["median"] > found[1]["replay_s"]["median"] > found[0]["replay_s"]["median"] == 0
    assert found[3]["held_mb"] < found[3]["peak_mb"] < 1
    said = capsys.readouterr().out
    assert "Resuming in an epoch of 1,000" in said and "Planning an epoch" in said


def test_the_set_made_is_a_whole_one(tmp_path):
    bench_resume.make_set(tmp_path, samples=250, per_shard=100)

    data = ShardDataset(tmp_path, batch_size=50, shuffle=True)

    assert [len(images) for images, _ in data] == [50] * 5
    data.close()
