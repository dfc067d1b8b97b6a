"""tools/bench/archives.py measures archives whose shards equal those of the folder, and its table can be made."""

import json
from pathlib import Path

import pytest

from tools.bench import archives as bench_archives


def test_every_kind_of_archive_is_packed_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--images", "20", "--small", "20", "--rounds", "1", "--out", str(tmp_path)]
    kinds = ["tar.gz", "zip", "tars.tar"]

    rates = bench_archives.main([*options, "--kinds", *kinds])

    _, photographs, small = map(json.loads, (tmp_path / "bench_archives.jsonl").read_text().splitlines())
    assert list(rates["photographs"]) == list(rates["small"]) == ["folder", *kinds]
    assert rates["small"]["folder"] == {"cpu": 1, "wall": 1}
    assert photographs["count"] == small["count"] == 20
    assert all(f"\n| {kind} " in capsys.readouterr().out for kind in kinds[:1])


def test_an_archive_that_gives_other_shards_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        bench_archives.KINDS, "tar", lambda folder, out: bench_archives.KINDS["zip"](next(folder.iterdir()), out)
    )

    with pytest.raises(RuntimeError, match=r"imgs\.tar differ from those of"):
        bench_archives.main(["--images", "20", "--rounds", "1", "--out", str(tmp_path), "--kinds", "tar"])
