"""Program of one rank of a distributed test: it iterates in step with the other ranks, and records its batches.

As a script, under torchrun: ``python -m torch.distributed.run … tests/support/ddp_rank.py SET OUT``. As a module,
`spawned` is what ``torch.multiprocessing.spawn`` starts.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset
from mps_shards.sampling.rank import Share


def dataset(shards: Path, **options) -> ShardDataset:
    return ShardDataset(shards, **{"batch_size": 3, "shuffle": True, "seed": 9, "keys": True, **options})


def in_step(batches) -> list[list[str]]:
    """Return the keys of each batch. All ranks wait for each other after each batch, so unequal ranks hang."""
    found = []
    for _, _, keys in batches:
        dist.all_reduce(torch.ones(1))
        found.append(list(keys))
    return found


def torchrun_rank(shards: Path, out: Path) -> None:
    """Record the batches of every remainder option, with DataLoader workers, with threads, and after resuming."""
    by_environment = repr(Share.detect())
    dist.init_process_group("gloo")
    written = {"place": [by_environment, repr(Share.detect())]}
    for remainder in ("pad", "drop"):
        data = dataset(shards, remainder=remainder)
        written[remainder] = in_step(data)
        written[f"{remainder} length"] = len(data)
    written["keep"] = [list(keys) for _, _, keys in dataset(shards, remainder="keep")]
    written["workers"] = in_step(DataLoader(dataset(shards), batch_size=None, num_workers=2))
    written["threads"] = in_step(DeviceLoader(dataset(shards), device="cpu", num_threads=2))

    interrupted = dataset(shards)
    written["resumed"] = in_step(islice(interrupted, 2))
    written["state"] = interrupted.state_dict()
    resumed = dataset(shards)
    resumed.load_state_dict(interrupted.state_dict())
    written["resumed"] += in_step(resumed)

    (out / f"{dist.get_rank()}.json").write_text(json.dumps(written))
    dist.destroy_process_group()


def spawned(rank: int, world: int, out: Path, given: ShardDataset, state: dict) -> None:
    """Record the batches of a data set made before the ranks, also in a spawned worker without a process group."""
    dist.init_process_group("gloo", init_method=f"file://{out}/meeting", rank=rank, world_size=world)
    written = {"given": in_step(given)}
    given.load_state_dict(state)
    dist.barrier()  # so that both have loaded before one begins
    written["resumed"] = in_step(given)
    given.set_epoch(1)
    workers = DataLoader(given, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    written["next epoch, spawned worker"] = in_step(workers)
    (out / f"{rank}.json").write_text(json.dumps(written))
    dist.destroy_process_group()


if __name__ == "__main__":
    torchrun_rank(Path(sys.argv[1]), Path(sys.argv[2]))
