"""A transform's random numbers depend on (seed, epoch, position) alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.shards import keyed
from mps_shards.vision.randomness import KeyedRandom

whole = st.integers(0, 2**64 - 1)
places = st.tuples(whole, st.integers(0, 2**62))
draws = st.lists(st.sampled_from(["random", "bits", "integers", "normal", "bytes"]), max_size=8)


def draw(rng: np.random.Generator, kind: str) -> object:
    if kind == "random":
        return rng.random()
    if kind == "bits":
        return rng.bit_generator.random_raw()
    if kind == "integers":  # half of 64 bits: the generator keeps the other half
        return int(rng.integers(0, 100, dtype=np.uint32))
    return rng.normal() if kind == "normal" else rng.bytes(3)


@given(seed=whole, place=places)
def test_random_numbers_are_those_of_seed_epoch_and_position(seed: int, place: tuple[int, int]):
    epoch, position = place

    raw = KeyedRandom(seed=seed).at(epoch, position).bit_generator.random_raw(9)

    assert np.array_equal(raw, keyed.bits(keyed.Stream.AUGMENT, 9, seed=seed, epoch=epoch, a=position))


@given(seed=whole, order=st.lists(st.tuples(places, draws), min_size=1, max_size=6), kinds=draws)
def test_earlier_draws_do_not_change_later_ones(
    seed: int, order: list[tuple[tuple[int, int], list[str]]], kinds: list[str]
):
    used, fresh = KeyedRandom(seed=seed), KeyedRandom(seed=seed)
    for place, before in order:
        rng = used.at(*place)
        for kind in before:
            draw(rng, kind)

    last = order[-1][0]
    mine, other = used.at(*last), fresh.at(*last)
    assert [draw(mine, kind) for kind in kinds] == [draw(other, kind) for kind in kinds]


def test_seeds_epochs_and_positions_do_not_overlap():
    first = {
        (seed, epoch, position): KeyedRandom(seed=seed).at(epoch, position).bit_generator.random_raw(4).tobytes()
        for seed in range(5)
        for epoch in range(5)
        for position in range(40)
    }

    assert len(set(first.values())) == len(first)


def test_neighbouring_positions_are_independent():
    random = KeyedRandom(seed=0)
    drawn = np.array([random.at(0, position).random(2) for position in range(4000)])

    assert abs(drawn.mean(axis=0) - 0.5).max() < 0.02
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.05
