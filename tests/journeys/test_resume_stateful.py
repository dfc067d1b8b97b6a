"""torchdata's StatefulDataLoader saves the state of each worker, and an interrupted run resumes exactly."""

import io
from itertools import islice
from typing import Any

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from mps_shards import ShardDataset, classify
from mps_shards.errors import ResumeMismatch
from tests.support.batches import assert_same
from tests.support.sets import shard_set

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # 3 workers on 2 cores are intended
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12 and later warn about forks
]

SET = shard_set([5, 0, 1, 24, 11])  # 41 samples: 11 batches of 4, the last of one


def dataset(**options: Any) -> ShardDataset:
    return ShardDataset(
        SET, **{"batch_size": 4, "transform": classify.train(8), "shuffle": True, "keys": True, **options}
    )


def loader(data: ShardDataset, workers: int, *, persistent: bool = False) -> StatefulDataLoader:
    method = "fork" if workers else None
    return StatefulDataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=method, persistent_workers=persistent
    )


def saved(state: Any) -> Any:
    """Return the state after saving it to a checkpoint and loading it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("cut", [0, 1, 5, 10])
def test_a_run_interrupted_in_an_epoch_resumes_exactly(workers, cut):
    epochs = [list(dataset(epoch=epoch)) for epoch in (3, 4)]
    interrupted = loader(dataset(epoch=3), workers)
    given_out = list(islice(interrupted, cut)) if cut else []
    state = saved(interrupted.state_dict())

    data = dataset()
    resumed = loader(data, workers)
    resumed.load_state_dict(state)
    data.set_epoch(3)  # as a training loop that continues its epoch does
    given_out += list(resumed)
    data.set_epoch(4)

    assert_same(given_out, epochs[0])
    assert_same(resumed, epochs[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_can_be_interrupted_again(workers):
    whole = list(dataset())
    given_out, state = [], None

    for cut in (3, 1, 0, 2, 20):
        batches = loader(dataset(), workers)
        if state is not None:
            batches.load_state_dict(state)
        # the state is requested first, so torchdata starts the workers before the first batch
        batches.state_dict()
        given_out += islice(batches, cut) if cut else []
        state = saved(batches.state_dict())

    assert_same(given_out, whole)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_second_epoch_that_is_interrupted_resumes_exactly(workers, persistent, cut):
    # persistent workers report the end of their last epoch until they have made a batch of the next epoch
    data = dataset()
    interrupted = loader(data, workers, persistent=persistent)
    list(interrupted)
    data.set_epoch(1)
    running = iter(interrupted)
    given_out = list(islice(running, cut))
    state = saved(interrupted.state_dict())

    resumed = loader(dataset(epoch=1), workers, persistent=persistent)
    resumed.load_state_dict(state)

    assert_same(given_out + list(resumed), list(dataset(epoch=1)))


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_run_interrupted_at_the_end_of_an_epoch_resumes_with_the_next_epoch(workers, persistent):
    interrupted = loader(dataset(), workers, persistent=persistent)
    list(interrupted)
    state = saved(interrupted.state_dict())

    data = dataset()
    resumed = loader(data, workers, persistent=persistent)
    resumed.load_state_dict(state)
    data.set_epoch(1)

    assert_same(resumed, list(dataset(epoch=1)))


def test_each_rank_resumes_with_its_own_share():
    for rank in range(2):
        options = {"rank": rank, "world_size": 2, "remainder": "keep"}
        interrupted = loader(dataset(**options), 2)
        given_out = list(islice(interrupted, 3))
        state = saved(interrupted.state_dict())

        resumed = loader(dataset(**options), 2)
        resumed.load_state_dict(state)

        assert_same(given_out + list(resumed), list(dataset(**options)))


def test_workers_refuse_a_state_of_other_batches():
    interrupted = loader(dataset(), 2)
    list(islice(interrupted, 3))
    resumed = loader(dataset(batch_size=5), 2)
    resumed.load_state_dict(interrupted.state_dict())

    with pytest.raises(ResumeMismatch, match=r"worker \d of 2 with 4 samples a step .* worker \d of 2 with 5 samples"):
        list(resumed)
