"""Law of resuming: interrupting a run anywhere, any number of times, at any world size, does not change its samples."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards.sampling.mixing import MixedOrder
from mps_shards.sampling.order import Order, Shuffle, order_of
from mps_shards.sampling.rank import Share
from mps_shards.sampling.rank_sharding import Deal
from tests.support.ranks import dealt_back

worlds = st.sampled_from([1, 2, 3, 4, 8])
workers = st.sampled_from([0, 1, 2, 4])
batches = st.integers(1, 12)
remainders = st.sampled_from(["pad", "drop", "keep"])
seeds = st.integers(0, 2**64 - 1)
some_shards = st.lists(st.one_of(st.integers(0, 2), st.integers(0, 60)), min_size=1, max_size=10)


@st.composite
def orders(draw: st.DrawFn) -> Order | MixedOrder:
    """Draw an order of an epoch: packed, shuffled, or mixed from two sets."""
    shuffle = draw(st.sampled_from([None, Shuffle(), Shuffle(block=3, lanes=4, window=20)]))
    counts = draw(some_shards.filter(sum))
    options = {"seed": draw(seeds), "epoch": draw(st.integers(0, 9))}
    if draw(st.booleans()):
        return order_of(counts, shuffle, **options)
    weights = draw(st.one_of(st.none(), st.tuples(st.floats(0.1, 9), st.floats(0.1, 9))))
    return MixedOrder([counts, draw(some_shards.filter(sum))], weights, shuffle, **options)


def steps_of(
    order: Order | MixedOrder, start: int, *, world: int, batch: int, workers: int, remainder: str
) -> tuple[list[list[int]], list[int]]:
    """Return the samples of each step over all ranks, in order, and the cursor after each step."""
    ranks, cursors = [], []
    for rank in range(world):
        made = {}
        for worker in range(max(1, workers)):
            deal = Deal(
                samples=order.samples,
                start=start,
                batch_size=batch,
                share=Share(rank=rank, world_size=world, worker=worker, num_workers=max(1, workers)),
                remainder=remainder,
                drop_last=False,
            )
            made |= {step: order.at(deal.positions(step)).tolist() for step in deal}
        ranks.append([made[step] for step in sorted(made)])
        cursors.append([deal.after(step) for step in sorted(made)])
    count = max(map(len, ranks))
    return [dealt_back([rank[step] for rank in ranks if step < len(rank)]) for step in range(count)], cursors[0]


def flat(steps: Sequence[list[int]]) -> list[int]:
    return [sample for step in steps for sample in step]


@settings(max_examples=100)
@given(st.data(), orders(), worlds, batches, remainders)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(data, order, world, batch, remainder):
    shape = {"world": world, "batch": batch, "remainder": remainder}
    whole, cursors = steps_of(order, 0, workers=data.draw(workers), **shape)

    ends = [1, len(cursors)] if cursors else []
    for cut in ends + data.draw(st.lists(st.integers(1, max(1, len(cursors))), max_size=4 if cursors else 0)):
        rest, _ = steps_of(order, cursors[cut - 1], workers=cut % 5, **shape)
        assert rest == whole[cut:]


@settings(max_examples=200)
@given(st.data(), orders())
def test_a_run_interrupted_repeatedly_with_other_world_sizes_gives_each_sample_once(data, order):
    sequence = order.at(np.arange(order.samples)).tolist()
    given_out, position = [], 0

    while position < order.samples:
        shape = {"world": data.draw(worlds), "batch": data.draw(batches), "workers": data.draw(workers)}
        steps, cursors = steps_of(order, position, remainder="keep", **shape)
        cut = data.draw(st.integers(1, len(cursors)))
        given_out += flat(steps[:cut])
        position = cursors[cut - 1]

    assert given_out == sequence


@settings(max_examples=100)
@given(st.data(), orders(), worlds, batches, st.sampled_from(["pad", "drop"]))
def test_an_interruption_changes_only_the_samples_that_the_last_step_pads_or_drops(
    data, order, world, batch, remainder
):
    sequence = order.at(np.arange(order.samples)).tolist()
    first, cursors = steps_of(order, 0, world=world, batch=batch, workers=0, remainder=remainder)
    if not cursors:  # fewer samples than ranks are left, and they are dropped
        return
    cut = data.draw(st.integers(1, len(cursors)))
    shape = {"world": data.draw(worlds), "batch": data.draw(batches), "workers": data.draw(workers)}
    position = cursors[cut - 1]

    rest, _ = steps_of(order, position, remainder=remainder, **shape)

    given_out = flat(first[:cut]) + flat(rest)
    if position == order.samples:  # the run was interrupted at the end of the epoch
        assert rest == []
    elif remainder == "pad":
        assert given_out == [sequence[i % len(sequence)] for i in range(len(given_out))]
        assert 0 <= len(given_out) - len(sequence) < shape["world"]
    else:
        assert given_out == sequence[: len(given_out)]
        assert 0 <= len(sequence) - len(given_out) < shape["world"]


@settings(max_examples=100)
@given(st.data(), orders(), st.integers(1, 3))
def test_global_batches_after_an_interruption_do_not_depend_on_the_world_size(data, order, share):
    # "keep" is exact to the last batch; test_deal.py has the laws of "pad" and "drop"
    start = data.draw(st.integers(0, order.samples))

    found = {
        world: steps_of(order, start, world=world, batch=share * 24 // world, workers=0, remainder="keep")[0]
        for world in (1, 2, 3, 4, 8)
    }

    assert all(steps == found[1] for steps in found.values())
