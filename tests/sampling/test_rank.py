"""The share of this process: rank, world size, DataLoader worker."""

import os
import pickle
from dataclasses import replace

import pytest
import torch.distributed as dist

from mps_shards import ShardDataset
from mps_shards.errors import ConfigError
from mps_shards.sampling.rank import Share, dataloader_worker
from tests.support.ranks import inside_worker
from tests.support.sets import shard_set


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_single_process_is_rank_0_of_1(bare_environment):
    assert Share.detect() == Share() == Share(rank=0, world_size=1, worker=0, num_workers=1)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, Share(rank=3, world_size=8)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Share(rank=2, world_size=4)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Share(rank=1, world_size=2)),
        ({"RANK": "1"}, Share()),
        ({"WORLD_SIZE": "2"}, Share()),
        ({}, Share()),
    ],
)
def test_the_rank_is_read_from_the_environment_variables_of_launchers(environ, place):
    assert Share.detect(environ) == place


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        (
            {"RANK": "4", "WORLD_SIZE": "4"},
            "RANK='4' and WORLD_SIZE='4' do not name a rank: rank=4 must be from 0 to 3",
        ),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "rank=-1 must be from 0 to 3, because world_size=4"),
        ({"SLURM_PROCID": "one", "SLURM_NTASKS": "4"}, "SLURM_PROCID='one' and SLURM_NTASKS='4' do not name a rank"),
    ],
)
def test_an_environment_with_an_invalid_rank_is_an_error(environ, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Share.detect(environ)


@pytest.mark.parametrize(
    "wrong", [{"rank": 1}, {"rank": -1}, {"world_size": 0}, {"worker": 1}, {"rank": 0.0}, {"num_workers": "2"}]
)
def test_an_invalid_rank_world_size_or_worker_is_an_error(wrong):
    with pytest.raises(ConfigError):
        Share(**wrong)


def test_a_process_group_takes_precedence_over_the_environment(bare_environment, tmp_path):
    bare_environment.setenv("RANK", "5")
    bare_environment.setenv("WORLD_SIZE", "6")
    assert Share.detect(os.environ) == Share(rank=5, world_size=6)

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert Share.detect(os.environ) == Share(rank=0, world_size=1)
    finally:
        dist.destroy_process_group()


def test_a_dataloader_worker_makes_a_part_of_its_rank_s_share():
    share = Share(rank=1, world_size=2)

    assert share.of_worker(dataloader_worker()) == share
    with inside_worker(None, 3, 4, base_seed=7):
        assert dataloader_worker() == (3, 4, 7)
        assert share.of_worker(dataloader_worker()) == replace(share, worker=3, num_workers=4)


def test_rank_and_world_size_are_given_together_or_not_at_all():
    assert Share.given(None, None) is None
    assert Share.given(1, 3) == Share(rank=1, world_size=3)
    for wrong in ((1, None), (None, 3)):
        with pytest.raises(ConfigError, match="give both, or neither to detect them"):
            Share.given(*wrong)
    with pytest.raises(ConfigError, match="rank=3 must be from 0 to 2, because world_size=3"):
        Share.given(3, 3)


def test_a_data_set_shows_its_rank_and_what_it_holds(bare_environment):
    folder = shard_set([3])
    data = ShardDataset(folder, batch_size=2)
    given = ShardDataset(folder, batch_size=2, rank=1, world_size=3, shuffle=True, seed=4, epoch=2)

    assert repr(data) == (
        f"ShardDataset('{folder}', classification, 3 classes, 3 samples, batch_size=2, shuffle=False, seed=0, epoch=0, "
        "rank=0, world_size=1)"
    )
    assert "shuffle=True, seed=4, epoch=2, rank=1, world_size=3)" in repr(given)
    bare_environment.setenv("RANK", "1")
    bare_environment.setenv("WORLD_SIZE", "2")
    assert "rank=1, world_size=2" in repr(data)  # the environment is read when reading begins


def test_a_pickled_data_set_detects_its_own_rank_except_in_a_dataloader_worker(bare_environment):
    bare_environment.setenv("RANK", "1")
    bare_environment.setenv("WORLD_SIZE", "2")
    sent = pickle.dumps(ShardDataset(shard_set([3]), batch_size=2))
    bare_environment.setenv("RANK", "0")

    arrived = pickle.loads(sent)

    assert "rank=0, world_size=2" in repr(arrived)
    # a worker has no process group, so it keeps the rank of the process that pickled the data set
    with inside_worker(arrived, 0, 1):
        assert "rank=1, world_size=2" in repr(arrived)


def test_a_rank_that_was_given_is_pickled_with_the_data_set():
    data = pickle.loads(pickle.dumps(ShardDataset(shard_set([3]), batch_size=2, rank=2, world_size=3)))

    assert "rank=2, world_size=3" in repr(data)
