"""The state of a loader is that of the iteration whose batches it delivered."""

import pytest

from mps_shards import DeviceLoader, ShardDataset
from tests.support.sets import shard_set


def loader_over(data: ShardDataset) -> DeviceLoader:
    return DeviceLoader(data, device="cpu", num_threads=2)


def data_set() -> ShardDataset:
    return ShardDataset(shard_set([40]), batch_size=2, shuffle=True, keys=True)


def test_two_loaders_over_one_data_set_keep_their_own_state() -> None:
    data = data_set()
    first, second = loader_over(data), loader_over(data)
    expected = [keys for *_, keys in loader_over(data_set())]

    with first, second:
        slow, fast = iter(first), iter(second)
        for _ in range(5):
            next(slow), next(fast), next(fast)
        state, other = first.state_dict(), second.state_dict()

    assert (state["position"], other["position"]) == (10, 20)
    resumed = data_set()
    resumed.load_state_dict(state)
    assert [keys for *_, keys in loader_over(resumed)] == expected[5:]


def test_the_state_of_a_data_set_is_that_of_its_latest_iteration() -> None:
    data = data_set()
    old, new = iter(loader_over(data)), iter(data)

    next(old), next(new), next(old), next(old)

    assert data.state_dict()["position"] == 2


@pytest.mark.parametrize("begun", [False, True])
def test_a_loaded_state_is_returned_until_the_next_batch(begun: bool) -> None:
    with loader_over(data_set()) as loader:
        running = iter(loader)
        if begun:
            next(running)
        loader.load_state_dict({**loader.state_dict(), "position": 8})
        assert loader.state_dict()["position"] == 8

        next(iter(loader))

        assert loader.state_dict()["position"] == 10


def test_setting_the_epoch_of_the_data_set_changes_the_state_of_the_loader() -> None:
    data = data_set()
    with loader_over(data) as loader:
        list(loader)

        data.set_epoch(7)

        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (7, 0)
