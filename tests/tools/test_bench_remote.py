"""tools/bench/remote.py reads all that it times, and its tables can be made."""

import json

import pytest

from tools.bench import remote as bench_remote


@pytest.mark.slow
def test_a_tiny_round_makes_tables_and_lines(tmp_path, capsys):
    found = bench_remote.main(["--images", "20", "--rounds", "1", "--delay-ms", "1", "--out", str(tmp_path)])

    _, *lines = map(json.loads, (tmp_path / "bench_remote.jsonl").read_text().splitlines())
    assert lines == json.loads(json.dumps(found))
    assert [figures.get("reader") or figures["latency"] for figures in found] == [
        "bare obstore",
        "ours, packed order",
        "ours, shuffled",
        "ours, without an index",
        "webdataset over curl",
        "samples, shuffled",
        "images, shuffled",
    ]
    assert "of bare" in capsys.readouterr().out
