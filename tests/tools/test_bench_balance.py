"""tools/bench/balance.py judges samplers rightly, and its tables can be made."""

import json

import numpy as np
import pytest

from tools.bench import balance as bench_balance


def test_a_tiny_round_makes_a_table_and_lines(tmp_path, capsys):
    options = ["--classes", "5", "--samples", "2000", "--imbalance", "20", "--batches", "16"]
    found = bench_balance.main([*options, "--out", str(tmp_path)])

    about, *lines = map(json.loads, (tmp_path / "bench_balance.jsonl").read_text().splitlines())
    assert lines == found and about["imbalance"] == 20
    said = capsys.readouterr().out
    assert all(name in said for name in bench_balance.SAMPLERS)
    by_sampler = {figures["sampler"]: figures for figures in found}
    even, random = by_sampler["mps-shards"], by_sampler["WeightedRandomSampler"]
    assert even["epoch_spread"] < 0.01 and even["used"] == 1.0 and even["repeats"] == 1.0
    assert random["epoch_spread"] > 0.02 and random["used"] < 0.9 and random["repeats"] > 4
    assert random["against_chance"] == pytest.approx(1, abs=0.1)


def test_a_sampler_that_prefers_a_class_or_a_sample_is_found_out():
    labels = bench_balance.long_tailed(4, 400, 1)

    def preferring(labels, epoch):
        return np.random.default_rng(epoch).permutation(np.repeat([0, 1, 100, 200, 300], len(labels) // 5))

    found = bench_balance.judge(preferring, labels, batch=8)

    assert found["epoch_spread"] == pytest.approx(0.8)  # 160 uses of class 0, 80 of each other, 100 on average
    assert found["used"] == 5 / 400 and found["repeats"] == 80


@pytest.mark.parametrize(
    ("sampler", "complaint"),
    [
        (lambda labels, epoch: np.zeros(3, dtype=int), "not as long as the set"),
        (lambda labels, epoch: np.arange(len(labels)), "the same order"),
    ],
)
def test_what_is_no_sampler_is_not_judged(sampler, complaint):
    with pytest.raises(ValueError, match=complaint):
        bench_balance.judge(sampler, bench_balance.long_tailed(3, 90, 3), batch=8)
