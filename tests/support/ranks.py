"""Whole clusters in one process: the ranks of a world, each with torch workers, without starting any process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import pytest
import torch.utils.data._utils.worker as torch_workers

from mps_shards import ShardDataset

_iterations = count()


@contextmanager
def inside_worker(dataset: ShardDataset, worker: int, workers: int, *, base_seed: int = 0) -> Iterator[None]:
    """What torch says in worker `worker` of `workers`; 0 workers are the main process."""
    with pytest.MonkeyPatch.context() as patch:
        if workers:
            info = torch_workers.WorkerInfo(id=worker, num_workers=workers, seed=base_seed + worker, dataset=dataset)
            patch.setattr(torch_workers, "_worker_info", info)
        yield


def loaded(dataset: ShardDataset, workers: int) -> Iterator[Any]:
    """The batches of a DataLoader with this many workers, in its order: round robin, until each has ended."""
    base_seed = next(_iterations)  # torch draws another one for each iteration
    running = {worker: iter(dataset) for worker in range(max(1, workers))}
    while running:
        for worker, batches in list(running.items()):
            with inside_worker(dataset, worker, workers, base_seed=base_seed):
                batch = next(batches, None)
            if batch is None:
                del running[worker]
            else:
                yield batch


class Cluster:
    """One data set a rank, iterated in step.

    Args:
        make: the data set of a rank.
    """

    def __init__(self, make: Callable[[int], ShardDataset], *, world: int, workers: int = 0):
        self.workers = workers
        self.ranks = [make(rank) for rank in range(world)]

    def run(self, steps: int | None = None) -> list[list[Any]]:
        """Batches of each rank, up to so many."""
        return [list(islice(loaded(rank, self.workers), steps)) for rank in self.ranks]

    def states(self, batches: int) -> list[dict[str, Any]]:
        """Each rank's cursor after so many batches."""
        return [rank.state_dict(batches=batches) for rank in self.ranks]

    def resume(self, state: dict[str, Any]) -> None:
        """Let every rank go on behind the cursor."""
        for rank in self.ranks:
            rank.load_state_dict(state)

    def __len__(self) -> int:
        """Steps of an epoch of the rank that has most."""
        return max(len(rank) for rank in self.ranks)


def dealt_back(ranks: list[list[Any]]) -> list[Any]:
    """What the ranks got of one step, in the order of the sequence."""
    rows = max(map(len, ranks), default=0)
    return [rank[row] for row in range(rows) for rank in ranks if row < len(rank)]
