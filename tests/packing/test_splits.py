"""Splitting gives each part its share of every class, by seed, and loses no image."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError
from mps_shards.packing.option_values import parse_shares
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.splits import share_out, split_listing

SHARES = st.lists(st.integers(1, 100), min_size=1, max_size=5).map(
    lambda parts: [Fraction(n, sum(parts)) for n in parts]
)
LABELS = st.lists(st.integers(-1, 5), min_size=1, max_size=200)


def listing(labels: list[int], *, task: str = "classification", name: str = "") -> Listing:
    entries = Entries(Entry(f"{n:05d}.jpg", 1 + n, label) for n, label in enumerate(labels))
    return Listing(layout="x", classes=("a", "b"), splits=(Split(name=name, task=task, entries=entries),))


def numbers(split: Split) -> list[int]:
    return [int(entry.path[:5]) for entry in split.entries]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30), shares=SHARES)
def test_each_class_and_all_images_are_within_one_of_their_shares(sizes: list[int], shares: list[Fraction]):
    counts = share_out(np.array(sizes), shares)

    exact = np.array([[size * share for share in shares] for size in sizes])
    assert (counts >= 0).all()
    assert counts.sum(axis=1).tolist() == sizes
    assert (abs(counts - exact) <= 1).all()
    assert (abs(counts.sum(axis=0) - exact.sum(axis=0)) < 1).all()


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), share=st.integers(1, 99).map(lambda n: Fraction(n, 100))
)
def test_two_parts_are_as_near_to_their_shares_as_possible(sizes: list[int], share: Fraction):
    counts = share_out(np.array(sizes), [share, 1 - share])

    off = sum(abs(count - size * share) for count, size in zip(counts[:, 0].tolist(), sizes, strict=True))
    best = {0: Fraction(0)}  # smallest deviation of the classes so far, by the number of images in the first part
    for size in sizes:
        steps = [(n, abs(n - size * share)) for n in {int(size * share), -int(-size * share // 1)}]
        reached: dict[int, Fraction] = {}
        for total, sofar in best.items():
            for n, more in steps:
                reached[total + n] = min(reached.get(total + n, sofar + more), sofar + more)
        best = reached
    assert off == best[int(counts[:, 0].sum())]


def test_shares_that_divide_evenly_are_exact():
    counts = share_out(np.array([10, 20, 130]), [Fraction("0.8"), Fraction("0.1"), Fraction("0.1")])

    assert counts.tolist() == [[8, 1, 1], [16, 2, 2], [104, 13, 13]]


@given(labels=LABELS, seed=st.integers(0, 2**64 - 1))
def test_every_image_is_in_one_part_and_parts_keep_the_order(labels: list[int], seed: int):
    found = listing([*labels, 0, 1, 2])

    parts = split_listing(found, "train=0.6,val=0.4", seed=seed).splits

    assert [split.name for split in parts] == ["train", "val"]
    assert sorted(entry for split in parts for entry in split.entries) == sorted(found.splits[0].entries)
    assert all(numbers(split) == sorted(numbers(split)) for split in parts)


def test_classes_keep_their_shares_in_each_part():
    found = listing([0] * 900 + [1] * 90 + [2] * 10)

    train, val = split_listing(found, "val=0.1,train=0.9", seed=3).splits

    assert Counter(entry.label for entry in train.entries) == {0: 810, 1: 81, 2: 9}
    assert Counter(entry.label for entry in val.entries) == {0: 90, 1: 9, 2: 1}
    assert (train.name, val.name) == ("train", "val")


@pytest.mark.parametrize("task", ["segmentation", "unlabeled"])
def test_images_without_labels_are_split_as_one_class(task: str):
    parts = split_listing(listing([-1] * 10, task=task), "train=0.7,val=0.2,test=0.1", seed=0).splits

    assert {split.name: len(split.entries) for split in parts} == {"train": 7, "val": 2, "test": 1}
    assert {split.task for split in parts} == {task}


def test_each_seed_always_draws_its_own_parts():
    found = listing([n % 2 for n in range(20)])

    drawn = [numbers(split_listing(found, "train=0.7,val=0.3", seed=seed).splits[1]) for seed in (0, 0, 1)]

    assert drawn[0] == drawn[1] == [0, 11, 12, 17, 18, 19]
    assert drawn[2] != drawn[0]


def test_an_image_of_a_class_is_as_likely_to_be_drawn_as_any_other():
    found = listing([0] * 10)

    drawn = Counter(n for seed in range(500) for n in numbers(split_listing(found, "a=0.3,b=0.7", seed=seed).splits[0]))

    assert all(100 < drawn[n] < 200 for n in range(10))  # the expected value is 150, with a standard deviation of 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("train=0.9,val=0.2", "add up to 1.1; they must add up to at most 1"),
        ("train=0.5,train=0.5", "names 'train' twice"),
        ("train", "'train' is not a part of a split; write the parts like train=0.9,val=0.1"),
        ("train=1,", "'' is not a part"),
        ("train=x,val=1", "'train=x' is not a part"),
        ("train=1/0", "'train=1/0' is not a part"),
        ("train=1.5,val=-0.5", "'val=-0.5' is not a part of a split; .* a share above 0"),
        ("../x=0.5,val=0.5", "'../x=0.5' is not a part"),
        ("=0.5,val=0.5", "'=0.5' is not a part"),
        ("train=1/999999999,val=999999998/999999999,test=0", "'test=0' is not a part"),
        ("a=1/99999999999,b=99999999998/99999999999", "too many digits"),
    ],
)
def test_a_malformed_split_says_what_is_wrong(text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        parse_shares(text)


def test_shares_may_be_fractions_with_blanks_around_them():
    assert parse_shares(" train = 2/3 , val=1/3") == {"train": Fraction(2, 3), "val": Fraction(1, 3)}


def test_a_part_without_an_image_is_refused():
    with pytest.raises(ConfigError, match="the split 'val' would get none of 4 images"):
        split_listing(listing([0, 0, 1, 1]), "train=0.9,val=0.1", seed=0)


def test_a_source_with_splits_of_its_own_is_refused():
    with pytest.raises(ConfigError, match=r"the source has splits of its own \(train\)"):
        split_listing(listing([0, 1], name="train"), "a=0.5,b=0.5", seed=0)
