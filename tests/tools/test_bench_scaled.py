"""A tiny round of the measurement behind the README's figures."""

import json
import sys

import pytest

from tools.bench import scaled as measure_scaled


def test_large_photographs_differ_a_little_and_small_ones_not_at_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure_scaled, "SIZES", ((1000, 750), (300, 240)))
    monkeypatch.setattr(sys, "argv", ["measure_scaled.py", "--images", "4", "--json"])

    measure_scaled.main()

    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["max"] > 0 for row in rows if row["transform"].startswith("evaluate")] == [True, False]
    assert all(row["mean"] < 4 for row in rows)
