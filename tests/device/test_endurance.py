"""Long runs of the transfer queue, left out by default: ``make test ARGS='-m slow tests/device'``."""

import gc
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards import DeviceLoader
from tests.device.test_engines import exercise
from tests.device.test_lifetimes import open_iterate_leave, own_threads


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fake-inline", "fake-thread"])
def test_a_hundred_thousand_batches_arrive_in_order(name: str) -> None:
    chance = random.Random(name)
    done = 0
    while done < 50_000:  # half of the total, because the test runs for two engines
        done += exercise(name, chance, chance.randrange(1, 400))

    assert own_threads() == []


@pytest.mark.slow
def test_a_thousand_iterations_leave_no_threads_or_files(loader_of: Callable[..., DeviceLoader]) -> None:
    open_iterate_leave(loader_of, 1000, seed=1)

    gc.collect()
    assert own_threads() == []


@pytest.mark.slow
@pytest.mark.parametrize("transfer", [None, "inline", "thread"])
def test_memory_does_not_grow_over_fifty_epochs(loader_of: Callable[..., DeviceLoader], transfer: str | None) -> None:
    loader = loader_of(transfer=transfer, batch_size=20)
    after = []
    for epoch in range(60):
        loader.set_epoch(epoch)
        assert sum(len(keys) for *_, keys in loader) == 60
        gc.collect()
        after.append(resident())

    assert max(after[10:]) - min(after[10:]) < 4e6
