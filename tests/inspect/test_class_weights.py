"""Class weights equal their definitions, and classes without samples get the weight 0."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mps_shards import Balance, ShardDataset
from mps_shards.errors import ConfigError
from mps_shards.inspect.class_weights import (
    effective_weights,
    inverse_weights,
    median_frequency_weights,
    positive_weights,
    sample_weights,
    weight_lines,
)
from mps_shards.inspect.survey import survey
from tests.support.commands import refused, run
from tests.support.sets import shard_set
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
    # class 0 has half of 100 pixels, class 1 a tenth of 50 pixels, and class 2 does not occur
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


def test_samples_weigh_by_the_rarest_class_that_their_label_map_holds(tmp_path: Path):
    shards, file = segmentation_set(), tmp_path / "weights.npy"
    data = ShardDataset(shards, batch_size=None)
    held = [set(np.unique(target)) - {data.ignore_index} for _, target in data]
    counts = {number: sum(number in classes for classes in held) for number in set().union(*held)}

    said = run("stats", shards, "--sample-weights", file).stdout

    weights = np.load(file)
    expected = [max((20 / counts[number]) ** 0.5 for number in classes) for classes in held]
    assert weights == pytest.approx(expected) and f"Weights of samples in {file}" in said
    assert weights.max() > weights.min()
    rare = min(counts, key=lambda number: counts[number])
    balanced = ShardDataset(
        shards, batch_size=None, shuffle=True, balance=Balance(samples=weights, length=200), keys=True
    )
    with_rare = sum(rare in set(np.unique(target)) for _, target, _ in balanced)
    assert with_rare / 200 > counts[rare] / 20
    data.close()
    balanced.close()


def test_a_broken_sample_weighs_nothing_and_a_part_of_a_set_has_no_weights(tmp_path: Path):
    shards = shard_set([8], broken=[2])  # classes 0, 1, 2, 0, 1, …

    weights = sample_weights(survey(shards))

    assert weights[2] == 0 and weights[5] == pytest.approx(8**0.5)  # the only one of class 2 that is left
    assert weights[0] == pytest.approx((8 / 3) ** 0.5)
    with pytest.raises(ConfigError, match="need a survey of the whole set"):
        sample_weights(survey(shards, samples=4))
    assert "cannot write" in refused("stats", segmentation_set(), "--sample-weights", tmp_path / "absent" / "x.npy")
