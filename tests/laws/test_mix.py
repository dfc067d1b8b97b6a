"""Laws of mixing several shard sets by weight."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError
from mps_shards.sampling.mixing import MixedOrder, shares
from mps_shards.sampling.order import Shuffle

SHUFFLE = Shuffle(block=4, lanes=4, window=32)

sets_of = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum), min_size=2, max_size=5)

# number of positions within which the shares of the sets are exact; the edges of a group are the hard cases
GROUP = 1024


@st.composite
def large_sets(draw: st.DrawFn) -> list[list[int]]:
    """Sizes of sets that make up several groups together and end close to the edge of a group."""
    sizes = draw(st.lists(st.integers(1, 900), min_size=2, max_size=6))
    over = draw(st.integers(-3, 6))
    sizes.append(-sum(sizes) % GROUP + draw(st.integers(1, 3)) * GROUP + over)
    return [[size] for size in draw(st.permutations(sizes))]


shuffles = st.sampled_from([None, SHUFFLE])
seeds = st.integers(0, 2**64 - 1)


@st.composite
def weighted(draw: st.DrawFn, sets=sets_of) -> tuple[list[list[int]], list[float]]:
    counts = draw(sets)
    weight = st.floats(0.01, 100, allow_nan=False)
    return counts, draw(st.lists(weight, min_size=len(counts), max_size=len(counts)))


def epoch_of(counts, weights, shuffle, *, seed=0, epoch=0) -> list[int]:
    order = MixedOrder(counts, weights, shuffle, seed=seed, epoch=epoch)
    return order.at(np.arange(order.samples)).tolist()


def set_of(counts, numbers) -> np.ndarray:
    """Return the set to which each sample number belongs."""
    return np.searchsorted(np.cumsum([sum(each) for each in counts]), numbers, side="right")


@given(weighted())
def test_shares_of_sets_add_up_and_are_exact_to_one_sample(drawn):
    counts, weights = drawn
    sizes = [sum(each) for each in counts]

    found = shares(sizes, weights)

    assert sum(found) == sum(sizes)
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    assert all(abs(share - wanted) < 1 + 1e-9 for share, wanted in zip(found, exact, strict=True))


@given(weighted(st.one_of(sets_of, large_sets())), shuffles, seeds, st.integers(0, 5))
def test_each_set_gets_its_share_of_an_epoch(drawn, shuffle, seed, epoch):
    counts, weights = drawn

    numbers = epoch_of(counts, weights, shuffle, seed=seed, epoch=epoch)

    drawn_from = np.bincount(set_of(counts, numbers), minlength=len(counts)).tolist()
    assert drawn_from == shares([sum(each) for each in counts], weights)


@given(st.one_of(sets_of, large_sets()), shuffles, seeds, st.integers(0, 5))
def test_without_weights_an_epoch_of_several_sets_holds_each_sample_once(counts, shuffle, seed, epoch):
    numbers = epoch_of(counts, None, shuffle, seed=seed, epoch=epoch)

    assert sorted(numbers) == list(range(sum(map(sum, counts))))


@given(weighted(), shuffles, seeds, st.integers(1, 5))
def test_over_several_epochs_the_samples_of_a_weighted_set_are_used_equally_often(drawn, shuffle, seed, epochs):
    counts, weights = drawn

    seen = Counter()
    for epoch in range(epochs):
        seen.update(epoch_of(counts, weights, shuffle, seed=seed, epoch=epoch))

    first = 0
    for size in map(sum, counts):
        times = [seen[number] for number in range(first, first + size)]
        assert max(times) - min(times) <= 1
        first += size


@given(weighted(large_sets()), shuffles, seeds)
def test_weights_hold_in_every_part_of_the_epoch(drawn, shuffle, seed):
    counts, weights = drawn
    chosen = set_of(counts, epoch_of(counts, weights, shuffle, seed=seed))
    wanted = np.array(shares([sum(each) for each in counts], weights)) / len(chosen)

    for stop in range(GROUP, len(chosen) // GROUP * GROUP, GROUP):  # the last group takes the remaining samples
        found = np.bincount(chosen[:stop], minlength=len(counts))
        assert (np.abs(found - wanted * stop) <= len(counts)).all()


@given(st.data(), weighted(st.one_of(sets_of, large_sets())), shuffles, seeds)
def test_any_positions_in_any_order_give_the_samples_of_the_whole_epoch(data, drawn, shuffle, seed):
    counts, weights = drawn
    whole = epoch_of(counts, weights, shuffle, seed=seed, epoch=1)
    asked = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=30))

    found = MixedOrder(counts, weights, shuffle, seed=seed, epoch=1).at(np.array(asked)).tolist()

    assert found == [whole[position] for position in asked]


@given(weighted())
def test_unshuffled_sets_keep_their_packed_order(drawn):
    counts, weights = drawn

    numbers = np.array(epoch_of(counts, weights, None))

    first = 0
    for i, size in enumerate(map(sum, counts)):
        of_this_set = numbers[set_of(counts, numbers) == i]
        assert of_this_set.tolist() == [first + n % size for n in range(len(of_this_set))]
        first += size


def test_the_mixed_sequence_equals_a_stored_one():
    # If this digest changes, every saved cursor points at other samples: a new version of the cursor is needed.
    assert epoch_of([[4, 3], [2]], [1, 1], SHUFFLE, seed=5, epoch=3) == [4, 3, 7, 8, 7, 1, 8, 5, 6]


@pytest.mark.parametrize(
    ("sizes", "weights", "complaint"),
    [
        ([3, 4], [1], "weights has 1 numbers for 2 shard sets"),
        ([3, 4], [1, 0], "positive"),
        ([3, 4], [1, float("nan")], "positive"),
        ([3, 4], [1, float("inf")], "positive"),
        ([3, 0], [1, 1], "number 1 holds no samples"),
    ],
)
def test_invalid_weights_are_refused(sizes, weights, complaint):
    with pytest.raises(ConfigError, match=complaint):
        shares(sizes, weights)
