"""tools/bench/shuffle.py judges orders rightly, and its tables can be made."""

import json

import numpy as np
import pytest

from tools.bench import shuffle as bench_shuffle

SMALL = {"classes": 10, "per_class": 60, "shard": 100, "batch": 8}


def test_a_tiny_round_makes_a_table_and_lines(tmp_path, capsys):
    found = bench_shuffle.main(["--sets", "10x60", "--batches", "8", "--shard", "100", "--out", str(tmp_path)])

    about, *lines = map(json.loads, (tmp_path / "bench_shuffle.jsonl").read_text().splitlines())
    assert lines == found and about["shard"] == 100
    said = capsys.readouterr().out
    assert all(name in said for name in bench_shuffle.ORDERS)
    by_order = {figures["order"]: figures for figures in found}
    assert 5 < by_order["mps-shards"]["distinct"] < 6.5
    assert abs(by_order["mps-shards"]["lag_1"]) < 0.2


def test_an_order_that_mixes_only_neighbours_is_found_out():
    def nearly_sorted(counts, epoch):
        numbers = np.arange(sum(counts)).reshape(-1, 4)
        return np.random.default_rng(epoch).permuted(numbers, axis=1).ravel()

    found = bench_shuffle.judge(nearly_sorted, **SMALL)

    assert found["distinct"] < 1.5
    assert found["lag_1"] > 0.9
    assert found["travelled"] < 0.05
    assert found["together_again"] > 50


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (lambda counts, epoch: np.zeros(sum(counts), dtype=int), "each sample once"),
        (lambda counts, epoch: np.arange(sum(counts)), "the same order"),
    ],
)
def test_what_is_no_shuffle_is_not_judged(order, complaint):
    with pytest.raises(ValueError, match=complaint):
        bench_shuffle.judge(order, **SMALL)
