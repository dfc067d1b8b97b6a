"""tools/bench/pack.py times what it checked, and its table can be made."""

import json
from pathlib import Path

import pytest

from tools.bench import pack as bench_pack


def test_a_tiny_round_makes_a_table_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = ["cp -r", "tar cf", "mps-shards pack", "Python tarfile"]

    found = bench_pack.main(["--images", "20", "--rounds", "2", "--out", str(tmp_path), "--contestants", *names])

    about, *lines = map(json.loads, (tmp_path / "bench_pack.jsonl").read_text().splitlines())
    assert about["images"] == 20 and about["commit"]
    assert [line["contestant"] for line in lines] == list(found) == names
    assert all(line["min"] <= line["median"] <= line["max"] for line in lines)
    said = capsys.readouterr().out
    assert "20 images, 2." in said and "| mps-shards pack | " in said
    assert not list(tmp_path.glob("tmp*"))


def test_output_that_is_not_the_source_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lazy = bench_pack.Contestant(command=lambda python, source, out: ["mkdir", out], writes="files")
    monkeypatch.setitem(bench_pack.CONTESTANTS, "cp -r", lazy)

    with pytest.raises(RuntimeError, match="wrote 0 images that differ from the 15 expected"):
        bench_pack.main(["--images", "15", "--rounds", "1", "--out", str(tmp_path), "--contestants", "cp -r"])
