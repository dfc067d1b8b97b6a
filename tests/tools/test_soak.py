"""What the soak looks for at length, in small: Ctrl-C at odd moments, and many open sets under few descriptors."""

import resource
from pathlib import Path

import pytest

from mps_shards import ShardDataset
from tests.support.sets import shard_set
from tools.scripts.interrupt import seconds_to_end


@pytest.mark.parametrize(("transfer", "after_s"), [("cpu", 0.0), ("thread", 0.3)])
def test_ctrl_c_at_any_moment_ends_the_loop_and_its_threads(transfer: str, after_s: float) -> None:
    assert seconds_to_end(shard_set([40, 40]), transfer, after_s) < 60


def test_many_open_sets_of_many_shards_share_few_descriptors() -> None:
    folder: Path = shard_set([1] * 300)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    sets = [ShardDataset(folder, batch_size=30, shuffle=True, seed=seed, keys=True) for seed in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        found = [[key for *_, keys in batches for key in keys] for batches in sets]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for data in sets:
            data.close()

    assert all(len(set(keys)) == 300 for keys in found)
