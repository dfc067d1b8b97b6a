"""Laws of the order of samples, compared with a slow and literal implementation of docs/order.md."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import ConfigError
from mps_shards.sampling.order import PackedOrder, Shuffle, ShuffledOrder, order_of

T = TypeVar("T")

counts_of = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 150)), max_size=12)
seeds = st.integers(0, 2**64 - 1)
epochs = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))


@st.composite
def shuffles(draw: st.DrawFn) -> Shuffle:
    lanes = draw(st.integers(1, 5))
    window = draw(st.integers(lanes, 40 * lanes))
    return Shuffle(block=draw(st.integers(1, 40)), lanes=lanes, window=window)


def reordered(items: Sequence[T], stream: int, *, seed: int, epoch: int, lane: int = 0, window: int = 0) -> list[T]:
    """Return the items sorted by a random number for each; items with equal numbers keep their order."""
    words = np.random.Philox(key=(epoch << 64) + seed, counter=(stream << 192) + (window << 128) + (lane << 64))
    numbers = [int(words.random_raw()) for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=numbers.__getitem__)]


def by_the_book(counts: Sequence[int], shuffle: Shuffle, *, seed: int, epoch: int) -> list[int]:
    """Return the sequence of an epoch, made step by step as docs/order.md describes it."""
    sixteen_a_lane = sum(counts) // (16 * shuffle.lanes)
    size = max(1, min(shuffle.block, sixteen_a_lane))
    blocks, first = [], 0
    for count in counts:
        shard = list(range(first, first + count))
        blocks += [shard[i : i + size] for i in range(0, count, size)]
        first += count
    line = [sample for block in reordered(blocks, 2, seed=seed, epoch=epoch) for sample in block]
    lanes = []
    for lane in range(shuffle.lanes):
        length = len(line) // shuffle.lanes + (lane < len(line) % shuffle.lanes)
        start = sum(len(each) for each in lanes)
        lanes.append(line[start : start + length])
    size = shuffle.window // shuffle.lanes
    for lane, samples in enumerate(lanes):
        windows = [samples[i : i + size] for i in range(0, len(samples), size)]
        lanes[lane] = [
            sample
            for number, window in enumerate(windows)
            for sample in reordered(window, 3, seed=seed, epoch=epoch, lane=lane, window=number)
        ]
    return [lane[place] for place in range(len(line)) for lane in lanes if place < len(lane)]


def sequence(counts: Sequence[int], shuffle: Shuffle | None, *, seed: int = 0, epoch: int = 0) -> list[int]:
    order = order_of(counts, shuffle, seed=seed, epoch=epoch)
    return order.at(np.arange(order.samples)).tolist()


@given(counts=counts_of, shuffle=shuffles(), seed=seeds, epoch=epochs)
def test_the_sequence_is_the_one_that_the_documentation_describes(counts, shuffle, seed, epoch):
    assert sequence(counts, shuffle, seed=seed, epoch=epoch) == by_the_book(counts, shuffle, seed=seed, epoch=epoch)


@given(counts=counts_of, shuffle=st.one_of(st.none(), shuffles()), seed=seeds, epoch=epochs)
def test_an_epoch_holds_every_sample_once(counts, shuffle, seed, epoch):
    assert sorted(sequence(counts, shuffle, seed=seed, epoch=epoch)) == list(range(sum(counts)))


@given(data=st.data(), counts=counts_of.filter(sum), shuffle=shuffles(), seed=seeds)
def test_any_positions_in_any_order_give_the_samples_of_the_whole_sequence(data, counts, shuffle, seed):
    whole = sequence(counts, shuffle, seed=seed)
    asked = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=60))
    order = ShuffledOrder(counts, shuffle, seed=seed, epoch=0)

    found = [order.at(np.array(part)).tolist() for part in (asked, asked[:1], asked[::-1])]

    assert found == [[whole[p] for p in part] for part in (asked, asked[:1], asked[::-1])]


@given(counts=counts_of.filter(lambda counts: sum(counts) > 40), seed=seeds, epoch=st.integers(0, 1000))
def test_another_epoch_or_seed_gives_another_order(counts, seed, epoch):
    shuffle = Shuffle(block=4, lanes=4, window=64)
    here = sequence(counts, shuffle, seed=seed, epoch=epoch)

    assert here != sequence(counts, shuffle, seed=seed, epoch=epoch + 1)
    assert here != sequence(counts, shuffle, seed=(seed + 1) % 2**64, epoch=epoch)
    assert here == sequence(counts, shuffle, seed=seed, epoch=epoch)


@given(counts=counts_of)
def test_without_shuffling_the_sequence_is_the_packed_order(counts):
    assert sequence(counts, None, epoch=5) == list(range(sum(counts)))
    assert isinstance(order_of(counts, None, seed=0, epoch=0), PackedOrder)


def test_the_sequence_equals_a_stored_one():
    # If this digest changes, every saved cursor points at other samples: a new version of the cursor is needed.
    small = sequence([5, 0, 1, 7], Shuffle(block=3, lanes=2, window=8), seed=7, epoch=2)
    large = sequence([1000, 37, 0, 1, 64, 4096], Shuffle(), seed=2**63 + 5, epoch=11)

    assert small == [2, 0, 4, 12, 11, 1, 9, 7, 6, 8, 3, 10, 5]
    assert digest(large) == "8d2442cb6d8c86e01b7b199584e6639b"


def digest(numbers: list[int]) -> str:
    return hashlib.sha256(np.array(numbers, dtype="<i8").tobytes()).hexdigest()[:32]


def test_a_batch_as_large_as_the_lanes_draws_from_as_many_blocks():
    shuffle = Shuffle(block=8, lanes=16, window=16 * 8)  # a window of one block is the hardest case
    numbers = np.array(sequence([16 * 8 * 16], shuffle))

    blocks_per_batch = [len(set(batch // 8)) for batch in numbers.reshape(-1, 16)]

    assert set(blocks_per_batch) == {16}


@pytest.mark.parametrize("samples", [200, 1000, 5000])
def test_small_sets_are_mixed_as_well_as_large_ones(samples):
    numbers = np.array(sequence([samples], Shuffle()))

    classes = [len(set(batch * 10 // samples)) for batch in numbers.reshape(-1, 8)]
    # classes per batch, of ten classes that are packed one after the other; 5.7 is expected for random batches
    assert 5 < np.mean(classes) < 6.3
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.2


@pytest.mark.parametrize("wrong", [{"block": 0}, {"lanes": 0}, {"lanes": 8, "window": 7}])
def test_invalid_distances_of_shuffling_are_refused(wrong):
    with pytest.raises(ConfigError, match="at least"):
        Shuffle(**wrong)


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**64), (1.5, 0), (True, 0)])
def test_seeds_that_do_not_fit_the_key_are_refused(seed, epoch):
    with pytest.raises(ConfigError, match="whole number from 0"):
        ShuffledOrder([3], Shuffle(), seed=seed, epoch=epoch)
