"""Simulated clusters in one process: ranks, each with torch workers, without starting a process."""

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
    """Make torch report worker `worker` of `workers`; 0 workers stand for the main process."""
    with pytest.MonkeyPatch.context() as patch:
        if workers:
            info = torch_workers.WorkerInfo(id=worker, num_workers=workers, seed=base_seed + worker, dataset=dataset)
            patch.setattr(torch_workers, "_worker_info", info)
        yield


def loaded(dataset: ShardDataset, workers: int) -> Iterator[Any]:
    """Return the batches of a DataLoader with this many workers in its order: round robin, until each has ended."""
    base_seed = next(_iterations)  # torch draws another seed for each iteration
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
    """Ranks with one data set each, which are iterated in step.

    Args:
        make: function that returns the data set of a rank.
    """

    def __init__(self, make: Callable[[int], ShardDataset], *, world: int, workers: int = 0):
        self.workers = workers
        self.ranks = [make(rank) for rank in range(world)]

    def run(self, steps: int | None = None) -> list[list[Any]]:
        """Return the batches of each rank, up to a number of batches."""
        return [list(islice(loaded(rank, self.workers), steps)) for rank in self.ranks]

    def states(self, batches: int) -> list[dict[str, Any]]:
        """Return each rank's cursor after a number of batches."""
        return [rank.state_dict(batches=batches) for rank in self.ranks]

    def resume(self, state: dict[str, Any]) -> None:
        """Load a cursor in every rank."""
        for rank in self.ranks:
            rank.load_state_dict(state)

    def __len__(self) -> int:
        """Return the largest number of steps of any rank in an epoch."""
        return max(len(rank) for rank in self.ranks)


def dealt_back(ranks: list[list[Any]]) -> list[Any]:
    """Return the samples of all ranks in one step, in the order of the sequence."""
    rows = max(map(len, ranks), default=0)
    return [rank[row] for row in range(rows) for rank in ranks if row < len(rank)]
