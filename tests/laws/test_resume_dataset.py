"""Law of resuming for `ShardDataset`: with ranks, DataLoader workers, skipped samples, and several sets."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import ShardDataset, Shuffle, SkipRules
from tests.support.ranks import Cluster, dealt_back
from tests.support.sets import keys, shard_set

worlds = st.sampled_from([1, 2, 3, 4, 8])
workers = st.sampled_from([0, 1, 2, 4])
batches = st.integers(1, 9)
remainders = st.sampled_from(["pad", "drop", "keep"])
# a few unusual sets, written once: one sample, empty shards, one sample per shard
SETS = [shard_set(counts) for counts in ([1], [7, 0, 1, 30, 2], [0, 13], [1] * 9, [64], [3, 50, 0, 0, 8])]
shards_of = st.one_of(st.sampled_from(SETS), st.lists(st.sampled_from(SETS), min_size=2, max_size=3))
shuffles = st.sampled_from([False, True, Shuffle(block=3, lanes=4, window=20)])


@st.composite
def runs(draw: st.DrawFn, *, shards=shards_of) -> dict[str, Any]:
    """Draw arguments that decide the sequence."""
    return {
        "shards": draw(shards),
        "shuffle": draw(shuffles),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "epoch": draw(st.integers(0, 3)),
        "keys": True,
    }


def cluster(run: dict[str, Any], *, world: int, batch: int, workers: int = 0, **options: Any) -> Cluster:
    return Cluster(
        lambda rank: ShardDataset(**run, batch_size=batch, rank=rank, world_size=world, **options),
        world=world,
        workers=workers,
    )


def steps_of(ranks: Cluster, count: int | None = None) -> list[list[str]]:
    """Return the keys of each step over all ranks, in the order of the sequence."""
    found = [[list(batch[-1]) for batch in rank] for rank in ranks.run(count)]
    steps = max(map(len, found))
    return [dealt_back([rank[step] for rank in found if step < len(rank)]) for step in range(steps)]


def flat(steps: list[list[str]]) -> list[str]:
    return [key for step in steps for key in step]


@settings(max_examples=60)
@given(st.data(), runs(), worlds, batches, remainders, workers, workers)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(data, run, world, batch, remainder, before, after):
    shape = {"world": world, "batch": batch, "remainder": remainder}
    whole = steps_of(cluster(run, **shape))
    interrupted = cluster(run, workers=before, **shape)
    cut = data.draw(st.integers(0, len(interrupted)))

    given_out = steps_of(interrupted, cut) if cut else []
    states = interrupted.states(cut)
    resumed = cluster({**run, "epoch": 0}, workers=after, **shape)
    resumed.resume(states[0])

    assert given_out + steps_of(resumed) == whole
    # the loaded position is used once: the next iteration is the next epoch from its start
    assert steps_of(resumed) == steps_of(cluster({**run, "epoch": run["epoch"] + 1}, **shape))
    assert all(state == states[0] for state in states)


@settings(max_examples=40)
@given(st.data(), runs(), st.booleans())
def test_a_run_interrupted_repeatedly_with_other_world_sizes_gives_each_sample_once(data, run, live):
    sequence = flat(steps_of(cluster(run, world=1, batch=1)))
    given_out, state = [], None

    while state is None or (state["epoch"], state["position"]) < (run["epoch"], len(sequence)):
        count = 0 if live else data.draw(workers)
        ranks = cluster(run, world=data.draw(worlds), batch=data.draw(batches), workers=count, remainder="keep")
        if state is not None:
            ranks.resume(state)
        cut = data.draw(st.integers(1, 4))
        given_out += flat(steps_of(ranks, cut))
        # rank 0 has a batch wherever any rank has one
        state = ranks.ranks[0].state_dict() if live else ranks.states(cut)[0]

    assert given_out == sequence


@settings(max_examples=25)
@given(runs(), st.integers(1, 2), remainders)
def test_global_batches_do_not_depend_on_the_number_of_ranks(run, share, remainder):
    found = {
        world: steps_of(cluster(run, world=world, batch=share * 24 // world, remainder=remainder))
        for world in (1, 2, 3, 4, 8)
    }

    for world, steps in found.items():
        assert steps[:-1] == found[1][: max(0, len(steps) - 1)]
        if remainder == "keep":
            assert steps == found[1]
        elif steps and len(steps) == len(found[1]):
            longest, shortest = sorted((steps[-1], found[1][-1]), key=len, reverse=True)
            assert longest[: len(shortest)] == shortest and len(longest) - len(shortest) < world


@pytest.mark.filterwarnings("ignore:drop_last leaves no batch:UserWarning")
@settings(max_examples=25)
@given(runs(), worlds, batches, remainders, st.booleans(), workers)
def test_the_length_is_exact_on_every_rank(run, world, batch, remainder, drop_last, count):
    ranks = cluster(run, world=world, batch=batch, remainder=remainder, drop_last=drop_last, workers=count)

    found = [len(batches) for batches in ranks.run()]

    assert found == [len(rank) for rank in ranks.ranks]
    assert remainder == "keep" or len(set(found)) == 1


BROKEN = [0, 3, 4, 5, 77, 158, 159]  # fewer samples are broken than a batch holds, so no batch is empty
COUNTS = [60, 0, 1, 99]


@settings(max_examples=25)
@given(st.data(), runs(shards=st.just(shard_set(COUNTS, broken=BROKEN))), worlds, st.integers(8, 12), workers)
def test_resuming_across_skipped_samples_is_exact(data, run, world, batch, count):
    shape = {"world": world, "batch": batch, "drop_last": True}
    intact = steps_of(cluster({**run, "shards": shard_set(COUNTS)}, **shape))
    interrupted = cluster({**run, "on_bad_sample": SkipRules(max_bad=None)}, workers=count, **shape)
    cut = data.draw(st.integers(1, len(interrupted)))

    given_out = steps_of(interrupted, cut)
    resumed = cluster({**run, "on_bad_sample": SkipRules(max_bad=None)}, workers=count, **shape)
    resumed.resume(interrupted.states(cut)[0])
    given_out += steps_of(resumed)

    # skipped samples use their positions: the steps are those of an intact set, some of them shorter
    assert list(map(sorted, given_out)) == [sorted(set(step) - set(keys(BROKEN))) for step in intact]
