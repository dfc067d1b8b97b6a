"""Our share of the reading: which rank of how many, and which torch worker of how many."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from mps_shards.errors import ConfigError

__all__ = ["Place", "torch_worker"]

# What launchers set: torchrun (and most others), then SLURM's srun.
_LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rank of a world, and within it a worker of a torch DataLoader.

    The rank decides which samples are read; the worker only which of the rank's batches are made here.
    """

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name, total in (("rank", "world"), ("worker", "workers")):
            place, count = getattr(self, name), getattr(self, total)
            if not isinstance(place, int) or not isinstance(count, int):
                raise ConfigError(f"{name}={place!r} and {total}={count!r} must be whole numbers")
            if not 0 <= place < count:
                raise ConfigError(f"{name}={place} is not below {total}={count}, counting from 0")

    @classmethod
    def detect(cls, environ: Mapping[str, str] = os.environ) -> "Place":
        """Rank and world from an initialised torch.distributed, else from the launcher's environment; else 0 of 1.

        torch is not loaded for this: a process group cannot be initialised without it.

        Raises:
            ConfigError: the environment names a rank that is no number, or not below the world size.
        """
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return cls(rank=distributed.get_rank(), world=distributed.get_world_size())
        for rank, world in _LAUNCHERS:
            if rank in environ and world in environ:
                try:
                    return cls(rank=int(environ[rank]), world=int(environ[world]))
                except ValueError as error:
                    message = f"{rank}={environ[rank]!r} with {world}={environ[world]!r} is no place: {error}"
                    raise ConfigError(message) from error
        return cls()

    def in_torch_worker(self) -> "Place":
        """This place with the worker of the torch DataLoader that we run in, if any."""
        found = torch_worker()
        if found is None:
            return self
        return Place(rank=self.rank, world=self.world, worker=found[0], workers=found[1])


def torch_worker() -> tuple[int, int] | None:
    """(worker, workers) where this process is a torch DataLoader's worker; None in any other."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return None if info is None else (info.id, info.num_workers)
