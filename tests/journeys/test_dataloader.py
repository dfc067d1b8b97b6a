"""torch's DataLoader over a ShardDataset gives the batches of a plain loop with any number of workers, and resumes."""

from itertools import islice
from typing import Any

import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from mps_shards import ShardDataset, classify
from mps_shards.errors import ConfigError, DecodeError, ResumeMismatch
from tests.support.batches import assert_same, keys_of
from tests.support.sets import shard_set

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # 4 workers on 2 cores are intended
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12 and later warn about forks
]

SET = shard_set([5, 0, 1, 24, 11])  # 41 samples: 11 batches of 4, the last of one


def dataset(**options: Any) -> ShardDataset:
    return ShardDataset(
        SET, **{"batch_size": 4, "transform": classify.train(8), "shuffle": True, "seed": 5, "keys": True, **options}
    )


def loader(data: ShardDataset, workers: int, method: str | None = None, *, persistent: bool = False) -> DataLoader:
    return DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )


@pytest.mark.parametrize(
    ("workers", "method", "persistent"),
    [
        (0, None, False),
        (1, "fork", False),
        (2, "fork", False),
        (2, "fork", True),
        (4, "fork", False),
        (4, "fork", True),
        pytest.param(2, "forkserver", True),
        pytest.param(2, "spawn", True),
    ],
)
def test_epochs_and_resuming_are_equal_to_those_of_a_plain_loop(workers, method, persistent):
    bare = dataset()
    epochs = [list(bare) for _ in range(5)]
    data = dataset()
    batches = loader(data, workers, method, persistent=persistent)

    assert_same(batches, epochs[0])
    data.set_epoch(3)  # must reach persistent workers
    assert_same(islice(batches, 6), epochs[3][:6])
    state = data.state_dict(batches=6)
    data.set_epoch(1)
    data.load_state_dict(state)
    assert_same(batches, epochs[3][6:])
    assert_same(batches, epochs[4])  # without set_epoch
    assert len(batches) == len(epochs[0]) == 11
    assert len({str(keys_of(epoch)) for epoch in epochs}) == 5


def test_a_loaded_position_is_used_by_only_one_iteration():
    epochs = [list(dataset(epoch=epoch)) for epoch in range(2)]
    data = dataset()
    data.load_state_dict(data.state_dict(batches=3))

    rest = list(loader(data, 1, "fork"))

    assert_same(rest, epochs[0][3:])
    assert_same(loader(data, 2, "fork"), epochs[1])


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("seeded", [False, True])
def test_epochs_that_are_left_early_advance_in_all_workers_equally(persistent, seeded):
    batches = loader(dataset(), 2, "fork", persistent=persistent)
    found = []

    for _ in range(4):
        if seeded:  # all iterations get workers of the same seed
            torch.manual_seed(0)
        found.append(list(islice(batches, 2)))

    for epoch, head in enumerate(found):
        assert_same(head, list(islice(dataset(epoch=epoch), 2)))


def test_two_epochs_of_one_number_are_equal():
    data = dataset()
    batches = loader(data, 2, "fork")
    first = list(batches)
    data.set_epoch(0)

    assert_same(first, list(batches))


@pytest.mark.parametrize("workers", [0, 2])
def test_single_samples_come_in_the_order_of_the_batches(workers):
    whole = [key for keys in keys_of(dataset()) for key in keys]

    samples = list(loader(dataset(batch_size=None), workers, "fork" if workers else None))

    assert [key for _, _, key in samples] == whole
    assert all(image.shape == (3, 8, 8) for image, _, _ in samples)


def test_map_and_select_apply_in_workers():
    data = dataset().map(lambda batch: batch[2]).select(lambda keys: len(keys) == 4)

    found = list(loader(data, 2, "fork"))

    assert found == keys_of(dataset())[:-1]
    data.set_epoch(1)  # a composed data set has the position of its origin
    assert list(loader(data, 2, "fork")) == keys_of(dataset(epoch=1))[:-1]


def test_the_state_in_the_main_process_says_that_it_needs_the_number_of_batches():
    data = dataset()
    next(iter(loader(data, 2, "fork")))

    with pytest.raises(ConfigError, match=r"state_dict\(batches=n\)"):
        data.state_dict()
    assert data.state_dict(batches=1)["position"] == 4


def test_the_state_of_a_worker_is_refused_by_other_workers():
    cursor = {**dataset().state_dict(), "worker": [0, 2, 4]}

    with pytest.raises(
        ResumeMismatch, match=r"worker 0 of 2 with 4 samples a step .* but this process is not a worker"
    ):
        dataset().load_state_dict(cursor)


def test_an_error_in_a_worker_names_the_sample():
    data = ShardDataset(shard_set([3, 3], broken=[4]), batch_size=2)

    try:
        list(data)
    except Exception:  # as torch passes it from a worker (a real worker costs 5 s, in which torch waits for its end)
        carried = ExceptionWrapper(where="in DataLoader worker process 0")

    with pytest.raises(DecodeError, match=r"in sample 's00004' of shard s-000001\.tar"):
        carried.reraise()


@pytest.mark.parametrize("options", [{}, {"keys": False}, {"fields": {"image": "jpg", "label": "cls"}, "keys": False}])
def test_a_dataloader_with_a_batch_size_over_batches_is_refused(options):
    with pytest.raises(ConfigError, match="yields finished batches: pass batch_size=None to the DataLoader"):
        next(iter(DataLoader(dataset(**options), batch_size=2)))

    assert len(next(iter(DataLoader(dataset(**options, batch_size=None), batch_size=2)))) == (
        len(options.get("fields", (0, 0))) + options.get("keys", True)
    )


def test_an_epoch_without_batches_gives_a_warning():
    with pytest.warns(UserWarning, match="drop_last leaves no batch: 41 samples are less than a batch of 64; use a"):
        assert len(dataset(batch_size=64, drop_last=True)) == 0
    with pytest.warns(UserWarning, match="less than a batch of 16 on each of 3 ranks"):
        dataset(batch_size=16, drop_last=True, rank=0, world_size=3)
