"""tools/bench/verify.py times runs that succeeded, and its table can be made."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.damage import copied, flip
from tools.bench import verify as bench_verify


def test_a_tiny_round_makes_a_table_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = bench_verify.main(["--samples", "3", "--rounds", "2", "--out", str(tmp_path)])

    about, *lines = map(json.loads, (tmp_path / "bench_verify.jsonl").read_text().splitlines())
    assert about["bytes"] > 100_000 and about["commit"]
    assert [line["contestant"] for line in lines] == list(found)
    assert "mps-shards verify" in found and bool(shutil.which("sha256sum")) == (bench_verify.RIVAL in found)
    assert "| mps-shards verify " in capsys.readouterr().out


def test_a_set_with_problems_is_no_result(tmp_path: Path):
    folder = copied([2], tmp_path / "set")
    flip(folder / "s-000000.tar", 700)

    with pytest.raises(RuntimeError, match="wrong digest"):
        bench_verify.main(["--shards", str(folder), "--rounds", "1", "--out", str(tmp_path)])
