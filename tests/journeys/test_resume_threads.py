"""DeviceLoader gives the batches of a plain loop with any number of threads, and its state never runs ahead."""

import json
from itertools import islice
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset, SkipRules, classify
from mps_shards.errors import DataError, DecodeError
from tests.support.batches import assert_same, keys_of
from tests.support.ranks import loaded
from tests.support.sets import foreign_tars, keys, shard_set

SET = shard_set([5, 0, 1, 24, 11])  # 41 samples: 11 batches of 4, the last of one


def dataset(shards: Any = SET, **options: Any) -> ShardDataset:
    defaults = {"batch_size": 4, "transform": classify.train(8), "shuffle": True, "keys": True}
    return ShardDataset(shards, **{**defaults, **options})


def loader(data: ShardDataset, threads: int = 2) -> DeviceLoader:
    return DeviceLoader(data, device="cpu", num_threads=threads)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_change_no_pixel_in_any_epoch(threads):
    with loader(dataset(), threads) as batches:
        assert_same(batches, dataset())
        batches.set_epoch(1)
        assert_same(batches, dataset(epoch=1))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("cut", [1, 6, 10, 11])
def test_a_checkpoint_holds_the_position_after_the_last_delivered_batch(threads, cut):
    interrupted = loader(dataset(epoch=2), threads)
    given_out = list(islice(interrupted, cut))
    state = json.loads(json.dumps(interrupted.state_dict()))
    interrupted.close()

    with loader(dataset(), threads) as resumed:
        resumed.load_state_dict(state)
        given_out += resumed

        assert_same(given_out, dataset(epoch=2))
        assert_same(resumed, dataset(epoch=3))  # the epoch advances automatically, because the position was used


def test_a_cursor_can_be_loaded_by_every_way_of_reading():
    whole = list(dataset())
    given_out, state = [], dataset().state_dict()
    for place, way in enumerate((iter, loader, lambda data: DataLoader(data, batch_size=None), iter)):
        data = dataset()
        data.load_state_dict(state)
        given_out += islice(way(data), 3 if place < 3 else None)
        state = data.state_dict()

    assert_same(given_out, whole)


def test_an_epoch_may_be_set_until_the_first_batch():
    for way in (iter, lambda data: iter(loader(data))):
        data = dataset()
        batches = way(data)
        data.set_epoch(1)

        assert keys_of(batches) == keys_of(dataset(epoch=1))


@pytest.mark.parametrize("way", [iter, loader])
def test_a_state_between_epochs_holds_the_start_of_the_next_epoch(way):
    data = dataset()
    batches = way(data)
    next_to_last = [data.state_dict() for _ in batches][-1]

    assert (next_to_last["epoch"], next_to_last["position"]) == (0, 41)
    assert (data.state_dict()["epoch"], data.state_dict()["position"]) == (1, 0)
    resumed = dataset()
    resumed.load_state_dict(next_to_last)
    assert list(resumed) == []  # the loop over that epoch ends, and the next iteration has the next epoch


# Bad samples

BROKEN = [2, 12, 13, 14, 15, 40]
PATCHY = shard_set([5, 0, 1, 24, 11], broken=BROKEN)


@pytest.mark.parametrize("shuffle", [False, True])
def test_skipped_samples_shorten_batches_and_do_not_move_other_samples(shuffle):
    good = [[key for key in batch if key not in keys(BROKEN)] for batch in keys_of(dataset(shuffle=shuffle))]
    data = dataset(PATCHY, shuffle=shuffle, on_bad_sample=SkipRules(max_bad=None))

    # with one rank, a batch without samples is left out
    assert keys_of(data) == [batch for batch in good if batch]
    data.set_epoch(0)
    with loader(data) as batches:
        assert keys_of(batches) == [batch for batch in good if batch]
        assert batches.stats().skipped == len(BROKEN)


@pytest.mark.parametrize("way", [iter, loader])
@pytest.mark.parametrize("cut", range(1, 10))
def test_resuming_next_to_skipped_samples_is_exact(way, cut):
    whole = list(dataset(PATCHY, shuffle=False, on_bad_sample=SkipRules(max_bad=None)))
    interrupted = dataset(PATCHY, shuffle=False, on_bad_sample=SkipRules(max_bad=None))
    given_out = list(islice(way(interrupted), cut))

    resumed = dataset(PATCHY, shuffle=False, on_bad_sample=SkipRules(max_bad=None))
    resumed.load_state_dict(interrupted.state_dict())

    assert_same(given_out + list(way(resumed)), whole)


def test_ranks_stay_in_step_when_one_rank_skips_samples():
    ranks = [
        dataset(PATCHY, batch_size=8, rank=rank, world_size=2, on_bad_sample=SkipRules(max_bad=None), shuffle=False)
        for rank in range(2)
    ]

    found = [keys_of(rank) for rank in ranks]

    assert [len(batches) for batches in found] == [len(rank) for rank in ranks] == [3, 3]
    assert [list(map(len, batches)) for batches in found] == [[5, 8, 4], [6, 8, 5]]


@pytest.mark.parametrize(("world_size", "workers"), [(2, 0), (1, 2)])
def test_a_step_without_samples_is_an_error_if_other_ranks_depend_on_it(world_size, workers):
    data = dataset(
        shard_set([8], broken=range(8)), rank=0, world_size=world_size, on_bad_sample=SkipRules(max_bad=None)
    )

    with pytest.raises(DataError, match=r"all 4 samples of a batch \(positions 0 to .*different numbers of batches"):
        list(loaded(data, workers))


def test_a_bad_sample_is_an_error_by_default():
    with pytest.raises(DecodeError) as caught:
        list(dataset(PATCHY, shuffle=False))

    assert caught.value.__notes__ == ["in sample 's00002' of shard s-000000.tar"]


def test_a_callable_decides_which_bad_samples_are_skipped():
    seen = []

    def only_the_first(error: DataError) -> bool:
        seen.append(error)
        return len(seen) == 1

    with pytest.raises(DecodeError) as caught:
        list(dataset(PATCHY, shuffle=False, on_bad_sample=only_the_first))

    assert seen[1] is caught.value
    assert caught.value.__notes__ == ["in sample 's00012' of shard s-000003.tar"]


# Tars without a manifest: the same results, but by skipping the samples before the position


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("remainder", ["pad", "drop", "keep"])
def test_foreign_tars_resume_exactly_with_other_ranks(shuffle, remainder):
    tars = foreign_tars([5, 0, 1, 24, 11])
    options = {"transform": None, "shuffle": shuffle, "remainder": remainder}
    sequence = [key for batch in keys_of(dataset(tars, batch_size=1, **options)) for key in batch]
    interrupted = dataset(tars, **options)
    given_out = [key for batch in islice(keys_of(interrupted), 5) for key in batch]
    interrupted = dataset(tars, **options)
    state = [interrupted.state_dict() for _ in islice(interrupted, 5)][-1]

    ranks = [dataset(tars, batch_size=3, rank=rank, world_size=2, **options) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(state)
    rest = [[key for batch in keys_of(rank) for key in batch] for rank in ranks]

    count = {"pad": 22, "drop": 20, "keep": 21}[remainder]
    together = [key for row in zip(*rest, strict=False) for key in row] + rest[0][len(rest[1]) :]
    assert given_out + together == (sequence + sequence[:1])[: 20 + count]
