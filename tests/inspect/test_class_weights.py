"""Class weights equal their definitions, and classes without samples get the weight 0."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.inspect.class_weights import (
    effective_weights,
    inverse_weights,
    median_frequency_weights,
    positive_weights,
    weight_lines,
)
from tests.support.commands import run
from tests.support.things import segmentation_set

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=40)


@given(COUNTS)
def test_inverse_weights_make_every_class_contribute_equally(counts: list[int]):
    weights = inverse_weights(counts)

    contributions = [weight * count for weight, count in zip(weights, counts, strict=True) if count]
    assert all(value == pytest.approx(contributions[0]) for value in contributions)
    assert sum(contributions) == pytest.approx(sum(counts))
    assert all(weight == 0 for weight, count in zip(weights, counts, strict=True) if not count)


@given(COUNTS)
def test_effective_weights_fall_with_the_count_and_have_mean_one(counts: list[int]):
    weights = effective_weights(counts)

    occurring = sorted((count, weight) for count, weight in zip(counts, weights, strict=True) if count)
    assert all(later <= earlier * (1 + 1e-9) for (_, earlier), (_, later) in itertools.pairwise(occurring))
    if len(occurring) and sum(counts) > 1:
        assert sum(weight for _, weight in occurring) / len(occurring) == pytest.approx(1)


def test_median_frequency_weights_are_those_of_the_paper():
    # class 0 fills half of 100 pixels, class 1 a tenth of 50, class 2 is nowhere
    assert median_frequency_weights([50, 5, 0], [100, 50, 0]) == pytest.approx([0.6, 3.0, 0.0])


def test_positive_weights_balance_positives_and_negatives():
    assert positive_weights([25, 50, 0], 100) == [3.0, 1.0, 0.0]


def test_the_lines_can_be_pasted():
    (line,) = weight_lines({"positive": [3.0, 1.0, 0.0]})

    made = eval(f"dict({line.partition('  #')[0]})", {"torch": torch, "dict": dict})
    assert made["pos_weight"].tolist() == [3.0, 1.0, 0.0]
    assert line.endswith("# BCEWithLogitsLoss")


def test_stats_prints_weights_for_labels(photos: Path, tmp_path: Path):
    run("pack", photos, tmp_path / "set")

    text = run("stats", tmp_path / "set").stdout
    figures = json.loads(run("stats", tmp_path / "set", "--json").stdout)

    assert "weight=torch.tensor([1, 1, 1, 1])  # cross_entropy, inverse frequency" in text
    assert figures["class_weights"]["inverse"] == [1.0] * 4
    assert figures["class_weights"]["effective"] == pytest.approx([1.0] * 4)


def test_stats_prints_weights_for_label_maps():
    figures = json.loads(run("stats", segmentation_set(), "--json").stdout)

    weights = figures["class_weights"]["median"]
    assert len(weights) == len([name for name in figures["masks"] if name != "ignored"])
    assert sorted(weights)[len(weights) // 2] == pytest.approx(1)
