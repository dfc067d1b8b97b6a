"""Laws of dealing positions to ranks, batches and torch workers."""

from hypothesis import assume, given
from hypothesis import strategies as st

from mps_shards.sampling.rank import Share
from mps_shards.sampling.rank_sharding import Deal

WORLDS = (1, 2, 3, 4, 8)
worlds = st.sampled_from(WORLDS)
remainders = st.sampled_from(["pad", "drop", "keep"])
sizes = st.one_of(st.integers(1, 12), st.integers(1, 300))
batches = st.integers(1, 20)


def deals(samples, batch, world, remainder, *, start=0, drop_last=False) -> list[Deal]:
    """Return the `Deal` of each rank."""
    return [
        Deal(
            samples=samples,
            start=start,
            batch_size=batch,
            share=Share(rank=rank, world_size=world),
            remainder=remainder,
            drop_last=drop_last,
        )
        for rank in range(world)
    ]


def positions(deal: Deal) -> list[list[int]]:
    """Return the positions of each batch of a rank."""
    return [deal.positions(step).tolist() for step in deal]


def dealt_back(ranks: list[list[int]]) -> list[int]:
    """Return the ranks' parts of one global batch in the order of the sequence."""
    rows = max(map(len, ranks))
    return [rank[row] for row in range(rows) for rank in ranks if row < len(rank)]


def global_batches(*args, **options) -> list[list[int]]:
    ranks = [positions(deal) for deal in deals(*args, **options)]
    steps = max(map(len, ranks))
    return [dealt_back([rank[step] if step < len(rank) else [] for rank in ranks]) for step in range(steps)]


@st.composite
def starts(draw: st.DrawFn, samples: int) -> int:
    return draw(st.integers(0, samples))


@given(st.data(), sizes, batches, worlds, remainders, st.booleans())
def test_the_batches_of_all_ranks_in_a_step_are_a_slice_of_the_sequence(
    data, samples, batch, world, remainder, drop_last
):
    start = data.draw(st.integers(0, samples))

    found = global_batches(samples, batch, world, remainder, start=start, drop_last=drop_last)

    for number, step in enumerate(found):
        begin = start + number * batch * world
        coming = [(begin + i) % samples for i in range(batch * world)]
        if number < len(found) - 1:
            assert step == coming
        # a rank with fewer samples may drop its last batch where another rank has a full one
        elif remainder == "keep" and drop_last:
            shares = [list(range(begin + rank, min(samples, begin + batch * world), world)) for rank in range(world)]
            assert step == dealt_back([share for share in shares if len(share) == batch])
        else:
            assert step == coming[: len(step)]


@given(st.data(), sizes, batches, worlds, remainders, st.booleans())
def test_the_number_of_batches_of_a_rank_is_exact(data, samples, batch, world, remainder, drop_last):
    start = data.draw(st.integers(0, samples))

    for deal in deals(samples, batch, world, remainder, start=start, drop_last=drop_last):
        found = positions(deal)
        assert len(found) == deal.steps
        assert all(len(step) == batch for step in (found if drop_last else found[:-1]))
        assert sum(map(len, found)) == (deal.count // batch * batch if drop_last else deal.count)


@given(st.data(), sizes, batches, worlds, st.booleans())
def test_each_remainder_option_gives_its_promised_number_of_samples(data, samples, batch, world, drop_last):
    start = data.draw(st.integers(0, samples))
    left = samples - start

    counts = {
        remainder: [sum(map(len, positions(deal))) for deal in deals(samples, batch, world, remainder, start=start)]
        for remainder in ("pad", "drop", "keep")
    }

    assert counts["pad"] == [-(-left // world)] * world
    assert counts["drop"] == [left // world] * world
    assert sum(counts["keep"]) == left and max(counts["keep"]) - min(counts["keep"]) <= 1


@given(sizes, batches, worlds)
def test_keep_gives_each_position_once_and_pad_repeats_only_the_start_of_the_epoch(samples, batch, world):
    kept = [position for step in global_batches(samples, batch, world, "keep") for position in step]
    padded = [position for step in global_batches(samples, batch, world, "pad") for position in step]
    dropped = [position for step in global_batches(samples, batch, world, "drop") for position in step]

    assert kept == list(range(samples))
    assert padded == [position % samples for position in range(-(-samples // world) * world)]
    assert dropped == list(range(samples // world * world))


@given(sizes, st.integers(1, 5), remainders)
def test_global_batches_do_not_depend_on_the_world_size(samples, share, remainder):
    # 1, 2, 3, 4 or 8 ranks with 24 samples per step; only samples that pad or drop the last row may differ
    found = {world: global_batches(samples, share * 24 // world, world, remainder) for world in WORLDS}

    whole = found[1]
    for world, steps in found.items():
        flat = [position for step in steps for position in step]
        exact = samples // world * world if remainder == "drop" else samples
        assert flat[:exact] == list(range(exact))
        assert [step for step in steps[:-1]] == whole[: len(steps) - 1]
        if remainder == "keep" or samples % world == 0:
            assert steps == whole


@given(st.data(), sizes, batches, worlds, remainders, st.sampled_from([1, 2, 4]))
def test_dataloader_workers_share_the_batches_of_a_rank_round_robin(data, samples, batch, world, remainder, workers):
    rank = data.draw(st.integers(0, world - 1))
    start = data.draw(st.integers(0, samples))

    def deal(worker: int, workers: int) -> Deal:
        share = Share(rank=rank, world_size=world, worker=worker, num_workers=workers)
        return Deal(samples=samples, start=start, batch_size=batch, share=share, remainder=remainder, drop_last=False)

    alone = deal(0, 1)
    shared = [list(deal(worker, workers)) for worker in range(workers)]

    assert [shared[step % workers][step // workers] for step in alone] == list(alone)
    assert sum(map(len, shared)) == alone.steps
    assert all(deal(worker, workers).steps == alone.steps for worker in range(workers))


@given(st.data(), sizes, batches, worlds, remainders, st.booleans())
def test_the_cursor_after_a_step_is_the_same_on_every_rank(data, samples, batch, world, remainder, drop_last):
    start = data.draw(st.integers(0, samples))
    ranks = deals(samples, batch, world, remainder, start=start, drop_last=drop_last)
    fewest = min(deal.steps for deal in ranks)
    assume(fewest)

    after = [[deal.after(step) for step in range(fewest)] for deal in ranks]

    assert all(other == after[0] for other in after)
    assert after[0] == sorted(after[0])
    assert all(start < position <= samples for position in after[0])
    assert after[0][:-1] == [start + (step + 1) * batch * world for step in range(fewest - 1)]


@given(st.data(), sizes, batches, worlds, remainders, st.booleans())
def test_resuming_after_the_last_step_has_no_batches_left(data, samples, batch, world, remainder, drop_last):
    start = data.draw(st.integers(0, samples - 1))
    ranks = deals(samples, batch, world, remainder, start=start, drop_last=drop_last)
    last = [deal.after(deal.steps - 1) for deal in ranks if deal.steps]
    assume(last)

    again = deals(samples, batch, world, remainder, start=max(last), drop_last=drop_last)

    assert [deal.steps for deal in again] == [0] * world
    if remainder != "keep":
        assert set(last) == {samples}
