"""Laws of subsets and balance: numbers of samples are exact, folds are complete, and resuming is exact."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mps_shards import Balance, ShardDataset, Shuffle, Subset
from mps_shards.errors import ConfigError, ResumeMismatch
from mps_shards.sampling.random_ranks import RandomRanks
from mps_shards.shards.keyed import Stream
from tests.support.ranks import Cluster, dealt_back
from tests.support.sets import foreign_tars, keys, shard_set

NAMES = ("a", "b", "c", "d", "e")
labellings = st.lists(st.integers(-1, 4), min_size=1, max_size=200).map(lambda found: np.array(found, dtype=np.int32))
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**64 - 1)


def chosen(subset: Subset, labels: np.ndarray) -> set[int]:
    try:
        return set(subset.numbers(len(labels), labels, names=NAMES, keyed=None).tolist())
    except ConfigError as error:
        assert "leaves none" in str(error)
        return set()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), seeds, st.data())
def test_random_ranks_are_a_random_order_of_each_group(groups, seed, data):
    group = np.array(groups)
    sizes = np.bincount(group, minlength=4)
    ranks = RandomRanks(group, sizes, stream=Stream.SUBSET, seed=seed)
    low = np.array([data.draw(st.integers(0, size)) for size in sizes])
    high = np.array([data.draw(st.integers(start, start + size)) for start, size in zip(low, sizes, strict=True)])

    below, above = ranks.below(low), ranks.between(low, sizes)
    ring = ranks.between(low, high)

    assert np.array_equal(np.bincount(group[below], minlength=4), low)
    assert np.array_equal(below, ~above)
    assert np.array_equal(np.bincount(group[ring], minlength=4), high - low)


@given(labellings, st.integers(1, 7), seeds)
def test_folds_are_disjoint_complete_and_equal_in_size_in_every_class(labels, count, seed):
    folds = [chosen(Subset(fold=(number, count), seed=seed), labels) for number in range(count)]

    assert sorted(number for fold in folds for number in fold) == list(range(len(labels)))
    for label in range(-1, 5):
        sizes = [sum(labels[number] == label for number in fold) for fold in folds]
        assert max(sizes) - min(sizes) <= 1
    for number, fold in enumerate(folds):
        assert chosen(~Subset(fold=(number, count), seed=seed), labels) == set(range(len(labels))) - fold


@given(labellings, st.floats(0, 1), seeds)
def test_a_fraction_is_exact_and_takes_the_same_share_of_every_class(labels, fraction, seed):
    found = chosen(Subset(fraction=fraction, seed=seed), labels)

    assert len(found) == round(len(labels) * fraction)
    for label in range(-1, 5):
        exact = fraction * (labels == label).sum()
        assert abs(sum(labels[number] == label for number in found) - exact) <= 1
    assert chosen(~Subset(fraction=fraction, seed=seed), labels) == set(range(len(labels))) - found


@given(labellings, st.integers(1, 30), st.sets(st.sampled_from(NAMES), min_size=1), seeds)
def test_a_subset_takes_a_number_of_samples_of_each_chosen_class(labels, count, names, seed):
    wanted = {NAMES.index(name) for name in names}
    eligible = {number for number, label in enumerate(labels) if label in wanted}

    whole = chosen(Subset(classes=sorted(names)), labels)
    few = chosen(Subset(classes=sorted(names), per_class=count, seed=seed), labels)

    assert whole == eligible
    assert Counter(labels[list(few)].tolist()) == Counter(
        {label: min(count, int((labels == label).sum())) for label in wanted if (labels == label).any()}
    )
    assert chosen(~Subset(classes=sorted(names)), labels) == set(range(len(labels))) - eligible
    assert chosen(~Subset(classes=sorted(names), per_class=count, seed=seed), labels) == eligible - few


@given(labellings, seeds, epochs)
def test_balancing_uses_each_class_equally_often_and_each_sample_of_a_class(labels, seed, epoch):
    assume((labels >= 0).any())
    numbers, counts = Balance().draws(labels, len(labels), names=NAMES, seed=seed, epoch=epoch)

    uses = np.bincount(numbers, minlength=len(labels))
    by_class = [uses[labels == label] for label in range(5) if (labels == label).any()]
    totals = [int(each.sum()) for each in by_class]
    assert sum(counts) == len(numbers) == len(labels)
    assert max(totals) - min(totals) <= 1 and not uses[labels < 0].any()
    assert all(each.max() - each.min() <= 1 for each in by_class)


@given(labellings, seeds)
def test_over_the_epochs_every_sample_of_a_class_is_used_equally_often(labels, seed):
    assume((labels >= 0).any())
    balance, uses = Balance(), np.zeros(len(labels), dtype=int)

    for epoch in range(12):
        uses += np.bincount(
            balance.draws(labels, len(labels), names=NAMES, seed=seed, epoch=epoch)[0], minlength=len(labels)
        )
        for label in range(5):
            assert not (labels == label).any() or np.ptp(uses[labels == label]) <= 1


@given(labellings, st.lists(st.integers(0, 9), min_size=5, max_size=5), seeds, epochs)
def test_class_weights_are_exact_to_the_sample(labels, weights, seed, epoch):
    weights = [weight if (labels == label).any() else 0 for label, weight in enumerate(weights)]
    assume(any(weights))
    numbers, _ = Balance(classes=weights).draws(labels, len(labels), names=NAMES, seed=seed, epoch=epoch)

    totals = np.bincount(labels[numbers], minlength=5)
    assert np.abs(totals - np.array(weights) / sum(weights) * len(labels)).max() < 1 + 1e-9


@given(labellings, seeds, epochs)
def test_without_replacement_no_sample_is_used_twice(labels, seed, epoch):
    present = [label for label in range(5) if (labels == label).any()]
    assume(present)
    rarest = min(int((labels == label).sum()) for label in present)

    numbers, _ = Balance(replacement=False).draws(labels, len(labels), names=NAMES, seed=seed, epoch=epoch)

    assert Counter(labels[numbers].tolist()) == dict.fromkeys(present, rarest)
    assert len(set(numbers.tolist())) == len(numbers)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=200).filter(any), st.none() | st.integers(1, 500), seeds, epochs
)
def test_sample_weights_are_exact_to_one_use(weights, length, seed, epoch):
    assume(sum(weights) > 1e-3)
    balance = Balance(samples=weights, length=length)

    numbers, _ = balance.draws(None, len(weights), names=(), seed=seed, epoch=epoch)

    expected = np.array(weights) / sum(weights) * (length or len(weights))
    uses = np.bincount(numbers, minlength=len(weights))
    assert uses.sum() == (length or len(weights))
    assert np.abs(uses - expected).max() < 1 + 1e-6


# Subsets and balance of ShardDataset

SETS = [shard_set(counts) for counts in ([7, 0, 1, 30, 2], [64], [1] * 9)]
subsets = st.sampled_from(
    [
        None,
        Subset(fraction=0.6),
        Subset(fold=(1, 3)),
        ~Subset(fold=(1, 3), seed=4),
        Subset(classes=["dog", 2]),
        Subset(per_class=3),
        Subset(keys=keys([0, 3, 5, 8])),
    ]
)
balances = st.sampled_from(
    [None, "classes", Balance(replacement=False), Balance(classes=[1, 2, 3], length=17), Balance(length=100)]
)
worlds, workers = st.integers(1, 4), st.integers(0, 2)


def cluster(run: dict[str, Any], *, world: int, batch: int, workers: int = 0, **options: Any) -> Cluster:
    return Cluster(
        lambda rank: ShardDataset(**run, batch_size=batch, rank=rank, world_size=world, keys=True, **options),
        world=world,
        workers=workers,
    )


def steps_of(ranks: Cluster, count: int | None = None) -> list[list[str]]:
    found = [[list(batch[-1]) for batch in rank] for rank in ranks.run(count)]
    steps = max(map(len, found))
    return [dealt_back([rank[step] for rank in found if step < len(rank)]) for step in range(steps)]


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    run = {
        "shards": draw(st.sampled_from([*SETS, SETS[:2]])),
        "shuffle": draw(st.sampled_from([True, Shuffle(block=3, lanes=4, window=20)])),
        "seed": draw(st.integers(0, 9)),
        "epoch": draw(st.integers(0, 3)),
        "subset": draw(subsets),
        "balance": draw(balances),
    }
    try:
        ShardDataset(**run, batch_size=1)
    except ConfigError as error:  # the subset has one class, and the weights name three
        assert "has no samples, so it cannot be balanced" in str(error)
        run["balance"] = None
    return run


@settings(max_examples=40)
@given(st.data(), runs(), worlds, st.integers(1, 9), workers, workers, st.sampled_from(["pad", "drop", "keep"]))
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(data, run, world, batch, before, after, remainder):
    shape = {"world": world, "batch": batch, "remainder": remainder}
    whole = steps_of(cluster(run, **shape))
    interrupted = cluster(run, workers=before, **shape)
    assert len(interrupted) == len(whole)
    cut = data.draw(st.integers(0, len(interrupted)))

    given_out = steps_of(interrupted, cut) if cut else []
    resumed = cluster({**run, "epoch": 0}, workers=after, **shape)
    resumed.resume(interrupted.states(cut)[0])

    assert given_out + steps_of(resumed) == whole


@settings(max_examples=25)
@given(runs())
def test_subsets_have_the_same_global_batches_on_any_ranks_and_the_stated_length(run):
    found = [steps_of(cluster(run, world=world, batch=12 // world, remainder="keep")) for world in (1, 2, 3, 4)]

    assert found[1:] == found[:1] * 3
    assert sum(map(len, found[0])) == ShardDataset(**run, batch_size=1).num_samples


def test_the_error_about_a_state_of_another_subset_or_balance_names_the_option():
    state = ShardDataset(SETS[0], batch_size=2, shuffle=True, subset=Subset(fraction=0.5)).state_dict()

    with pytest.raises(ResumeMismatch, match=r"subset was 'fraction=0\.5, seed=0' and is 'fraction=0\.5, seed=1'"):
        ShardDataset(SETS[0], batch_size=2, shuffle=True, subset=Subset(fraction=0.5, seed=1)).load_state_dict(state)
    with pytest.raises(ResumeMismatch, match="balance was None and is 'classes=equal'"):
        ShardDataset(SETS[0], batch_size=2, shuffle=True, balance="classes").load_state_dict(state)


def test_keys_of_a_subset_can_come_from_a_file_and_missing_ones_are_named(tmp_path):
    listed = tmp_path / "keys.txt"
    listed.write_text("s00003\ns00001\n\n")

    data = ShardDataset(SETS[0], batch_size=None, keys=True, subset=Subset(keys=listed))

    assert [key for *_, key in data] == keys([1, 3])
    listed.write_text("s00003\nnone such\n")
    with pytest.raises(ConfigError, match=r"1 of 2 keys of the subset are not in .*; the first is 'none such'"):
        ShardDataset(SETS[0], batch_size=1, subset=Subset(keys=listed))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Subset(), "at least one of classes, keys"),
        (lambda: Subset(classes="cat"), "a list of names or class indices"),
        (lambda: Subset(fold=(5, 5)), r"\(number, count\) with 0 <= number < count"),
        (lambda: Subset(fraction=1.5), "from 0 to 1"),
        (lambda: Subset(per_class=0), "at least 1"),
        (lambda: Balance(classes={"cat": -1.0}), "numbers from 0 up"),
        (lambda: Balance(samples=[0.0, 0.0]), "not all 0"),
        (lambda: Balance(length=0), "at least 1"),
        (lambda: ShardDataset(SETS[0], batch_size=1, subset=0.1), r"such as Subset\(fraction=0.1\)"),
        (
            lambda: ShardDataset(SETS[0], batch_size=1, subset=Subset(classes=["cow"])),
            "no class 'cow'; its 3 classes are",
        ),
        (lambda: ShardDataset(SETS[0], batch_size=1, shuffle=True, balance="class"), 'must be "classes", a weight'),
        (lambda: ShardDataset(SETS[0], batch_size=1, balance="classes"), "balance needs shuffle=True"),
        (
            lambda: ShardDataset(SETS[0], batch_size=1, shuffle=True, balance={"cat": 1}),
            "for each class .* 'dog' has no weight",
        ),
        (
            lambda: ShardDataset(SETS[0], batch_size=1, shuffle=True, balance=Balance(samples=[1.0])),
            "has 1 weights of samples, but there are 40",
        ),
        (
            lambda: ShardDataset({SETS[0]: 1, SETS[1]: 2}, batch_size=1, shuffle=True, balance="classes"),
            "exclude each other",
        ),
        (
            lambda: ShardDataset(foreign_tars([3]), batch_size=1, subset=Subset(fraction=0.5)),
            "subset needs shard sets with a manifest.json, .* run 'mps-shards index'",
        ),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
