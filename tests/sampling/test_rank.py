"""Which share of the reading is ours."""

import os
import pickle
from dataclasses import replace

import pytest
import torch.distributed as dist

from mps_shards import Place, ShardDataset
from mps_shards.errors import ConfigError
from mps_shards.sampling.rank import torch_worker
from tests.support.ranks import inside_worker
from tests.support.sets import shard_set


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_alone_one_rank_reads_all(bare_environment):
    assert Place.detect() == Place() == Place(rank=0, world=1, worker=0, workers=1)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, Place(rank=3, world=8)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, Place(rank=2, world=4)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Place(rank=1, world=2)),
        ({"RANK": "1"}, Place()),
        ({"WORLD_SIZE": "2"}, Place()),
        ({}, Place()),
    ],
)
def test_launchers_name_the_rank_in_the_environment(environ, place):
    assert Place.detect(environ) == place


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK='4' with WORLD_SIZE='4' is no place: rank=4 is not below world=4"),
        ({"RANK": "-1", "WORLD_SIZE": "4"}, "rank=-1 is not below world=4"),
        ({"SLURM_PROCID": "one", "SLURM_NTASKS": "4"}, "SLURM_PROCID='one' with SLURM_NTASKS='4' is no place"),
    ],
)
def test_an_environment_that_names_no_rank_is_refused(environ, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Place.detect(environ)


@pytest.mark.parametrize(
    "wrong", [{"rank": 1}, {"rank": -1}, {"world": 0}, {"worker": 1}, {"rank": 0.0}, {"workers": "2"}]
)
def test_a_place_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError):
        Place(**wrong)


def test_a_process_group_goes_before_the_environment(bare_environment, tmp_path):
    bare_environment.setenv("RANK", "5")
    bare_environment.setenv("WORLD_SIZE", "6")
    assert Place.detect(os.environ) == Place(rank=5, world=6)

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert Place.detect(os.environ) == Place(rank=0, world=1)
    finally:
        dist.destroy_process_group()


def test_a_torch_worker_is_told_by_torch():
    place = Place(rank=1, world=2)

    assert place.in_torch_worker() == place
    with inside_worker(None, 3, 4):
        assert torch_worker() == (3, 4)
        assert place.in_torch_worker() == replace(place, worker=3, workers=4)


def test_a_data_set_shows_its_place(bare_environment):
    data = ShardDataset(shard_set([3]), batch_size=2)
    given = ShardDataset(shard_set([3]), batch_size=2, place=Place(rank=1, world=3))

    assert repr(data) == "ShardDataset(3 samples, batch_size=2, Place(rank=0, world=1, worker=0, workers=1))"
    assert "Place(rank=1, world=3" in repr(given)
    bare_environment.setenv("RANK", "1")
    bare_environment.setenv("WORLD_SIZE", "2")
    assert "Place(rank=1, world=2" in repr(data)  # the launcher's word counts when reading begins


def test_a_pickled_data_set_finds_its_own_place_except_in_a_torch_worker(bare_environment):
    bare_environment.setenv("RANK", "1")
    bare_environment.setenv("WORLD_SIZE", "2")
    sent = pickle.dumps(ShardDataset(shard_set([3]), batch_size=2))
    bare_environment.setenv("RANK", "0")

    arrived = pickle.loads(sent)

    assert "rank=0, world=2" in repr(arrived)
    with inside_worker(arrived, 0, 1):  # which has no process group, so it goes by what it was told
        assert "rank=1, world=2" in repr(arrived)


def test_a_place_that_was_given_travels_with_the_data_set():
    data = pickle.loads(pickle.dumps(ShardDataset(shard_set([3]), batch_size=2, place=Place(rank=2, world=3))))

    assert "rank=2, world=3" in repr(data)
