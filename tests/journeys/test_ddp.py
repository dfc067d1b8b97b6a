"""Distributed training with real processes: torchrun over an uneven set, and spawned ranks with a data set."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing

from mps_shards import ShardDataset
from mps_shards.sampling.rank import Share
from tests.support import ddp_rank
from tests.support.ranks import dealt_back
from tests.support.sets import keys, shard_set

ROOT = Path(__file__).parents[2]
COUNTS = [11, 0, 1, 26, 3]  # 41 samples: neither 4 ranks nor batches of 3 divide them
SET = shard_set(COUNTS)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run four ranks under torchrun, and return the records of each rank."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

    subprocess.run([*command, ddp_rank.__file__, str(SET), str(out)], env=environment, check=True, timeout=120)

    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(4)]


def alone(**options: Any) -> list[str]:
    """Return the keys in the order of one process without ranks."""
    return [key for _, _, found in ddp_rank.dataset(SET, **options) for key in found]


def steps_of(ranks: list[list[list[str]]]) -> list[str]:
    steps = max(map(len, ranks))
    return [key for step in range(steps) for key in dealt_back([rank[step] for rank in ranks if step < len(rank)])]


def test_the_rank_comes_from_the_environment_of_the_launcher_or_from_the_process_group(ranks):
    for number, rank in enumerate(ranks):
        assert rank["place"] == [repr(Share(rank=number, world_size=4))] * 2


@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_ranks_take_equally_many_steps_of_equal_size(ranks, remainder):
    sizes = [[len(batch) for batch in rank[remainder]] for rank in ranks]

    assert sizes == [sizes[0]] * 4
    assert [rank[f"{remainder} length"] for rank in ranks] == [len(sizes[0])] * 4


def test_the_samples_of_all_ranks_together_follow_the_remainder_option(ranks):
    sequence = alone()

    assert sorted(sequence) == keys(range(41))
    assert steps_of([rank["keep"] for rank in ranks]) == sequence
    assert steps_of([rank["drop"] for rank in ranks]) == sequence[:40]
    assert steps_of([rank["pad"] for rank in ranks]) == sequence + sequence[:3]
    assert Counter(key for rank in ranks for batch in rank["pad"] for key in batch).total() == 44


@pytest.mark.parametrize("way", ["workers", "threads", "resumed"])
def test_workers_threads_and_resuming_change_nothing(ranks, way):
    assert [rank[way] for rank in ranks] == [rank["pad"] for rank in ranks]


def test_a_cursor_of_four_ranks_resumes_on_one_rank(ranks):
    states = [rank["state"] for rank in ranks]
    data = ddp_rank.dataset(SET, batch_size=7)
    data.load_state_dict(states[3])

    rest = [key for _, _, found in data for key in found]

    assert states == [states[0]] * 4
    assert rest == alone()[2 * 3 * 4 :]


def test_a_data_set_passed_to_spawned_ranks_gives_each_rank_its_share(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    data = ddp_rank.dataset(SET)  # made here, where there is one rank
    state = data.state_dict(batches=2)  # of one rank: after 6 samples

    torch.multiprocessing.spawn(ddp_rank.spawned, args=(2, tmp_path, data, state), nprocs=2)

    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    ways = {way: [rank[way] for rank in found] for way in found[0]}
    assert ways["given"] == shares()
    assert steps_of(ways["resumed"])[:35] == alone()[6:]
    assert ways["next epoch, spawned worker"] == shares(epoch=1)


def shares(**options: Any) -> list[list[list[str]]]:
    """Return the expected keys of each of two ranks."""
    sets: list[ShardDataset] = [ddp_rank.dataset(SET, rank=rank, world_size=2, **options) for rank in range(2)]
    return [[list(found) for _, _, found in rank] for rank in sets]
