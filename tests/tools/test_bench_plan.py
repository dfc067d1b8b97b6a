"""tools/bench/plan.py plans what it lists, and says what that took."""

import json

import pytest

from tools.bench import plan as measure_plan


def test_a_small_plan_is_measured_step_by_step(capsys: pytest.CaptureFixture[str]):
    lines = measure_plan.main(["--images", "5000", "--json"])

    assert lines == list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [line["step"] for line in lines][1:3] == ["listed 5,000", "planned 3 shards"]
    assert all(line["peak_mb"] > 0 for line in lines)
