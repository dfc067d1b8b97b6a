"""What the soak looks for at length, in small: Ctrl-C at odd moments, and many open sets under few descriptors."""

import resource
from pathlib import Path

import pytest

from mps_shards import ShardDataset
from tests.support.sets import shard_set
from tools.scripts.growth import Held, growth
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


def held(**changed: float) -> Held:
    return Held(**{"in_use_mb": 150.0, "blocks": 1_300_000, "resident_mb": 500.0, "threads": 1, "files": 10, **changed})


def test_growth_is_looked_for_in_what_is_in_use_and_not_in_what_is_resident():
    assert list(growth([held(resident_mb=500.0 + n) for n in range(400)])) == []
    assert next(growth([held(in_use_mb=150.0 + n / 10) for n in range(400)])).startswith("in_use_mb grew from ")
    assert next(growth([held(blocks=1_300_000 + 30 * n) for n in range(400)])).startswith("blocks grew from ")
    assert list(growth([held(files=10 + n // 300) for n in range(400)])) == [
        "files grew from 10 to 11, but only 0 more are allowed"
    ]


def test_memory_that_is_kept_counts_as_in_use():
    before = Held.now()
    kept = [bytearray(1 << 20) for _ in range(20)]
    after = Held.now()

    assert after.in_use_mb - before.in_use_mb >= 19, len(kept)
