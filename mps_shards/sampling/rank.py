"""The share of the reading that belongs to this process, given by its rank and its DataLoader worker."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from mps_shards.errors import ConfigError

__all__ = ["DataLoaderWorker", "Share", "dataloader_worker"]

# Environment variables of launchers: torchrun and most others, then SLURM's srun.
_LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of one rank, and of one DataLoader worker of this rank.

    The rank decides which samples are read. The worker decides which of the rank's batches this process makes.

    Attributes:
        rank: number of the rank, from 0.
        world_size: number of ranks.
        worker: number of the DataLoader worker, from 0.
        num_workers: number of DataLoader workers; 1 without workers.
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    num_workers: int = 1

    def __post_init__(self) -> None:
        for name, total in (("rank", "world_size"), ("worker", "num_workers")):
            number, count = getattr(self, name), getattr(self, total)
            if type(number) is not int or type(count) is not int:
                raise ConfigError(f"{name}={number!r} and {total}={count!r} must be whole numbers")
            if not 0 <= number < count:
                raise ConfigError(f"{name}={number} must be from 0 to {count - 1}, because {total}={count}")

    @classmethod
    def given(cls, rank: int | None, world_size: int | None) -> "Share | None":
        """Return the share that a caller chose; None if the caller chose none.

        Raises:
            ConfigError: only one of the two was given, or the rank is not below the world size.
        """
        if rank is None and world_size is None:
            return None
        if rank is None or world_size is None:
            raise ConfigError(f"rank={rank} and world_size={world_size}: give both, or neither to detect them")
        return cls(rank=rank, world_size=world_size)

    @classmethod
    def detect(cls, environ: Mapping[str, str] = os.environ) -> "Share":
        """Detect rank and world size: from torch.distributed, else from the launcher's environment, else rank 0 of 1.

        torch is not imported for this: without it, no process group can have been initialised.

        Raises:
            ConfigError: the environment names a rank that is not a number, or not below the world size.
        """
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return cls(rank=distributed.get_rank(), world_size=distributed.get_world_size())
        for rank, world_size in _LAUNCHERS:
            if rank in environ and world_size in environ:
                try:
                    return cls(rank=int(environ[rank]), world_size=int(environ[world_size]))
                except ValueError as error:
                    raise ConfigError(
                        f"the environment variables {rank}={environ[rank]!r} and {world_size}="
                        f"{environ[world_size]!r} do not name a rank: {error}"
                    ) from error
        return cls()

    def of_worker(self, worker: "DataLoaderWorker | None") -> "Share":
        """Return the part of this share that a DataLoader worker makes; the complete share if `worker` is None."""
        return self if worker is None else replace(self, worker=worker.number, num_workers=worker.total)


class DataLoaderWorker(NamedTuple):
    """Identity of a process that is a worker of a torch DataLoader.

    Attributes:
        number: number of the worker, from 0.
        total: number of workers of the DataLoader.
        base_seed: random number that the DataLoader draws for all workers of one iteration; persistent workers keep
            that of their first iteration.
    """

    number: int
    total: int
    base_seed: int


def dataloader_worker() -> DataLoaderWorker | None:
    """Return the number of this DataLoader worker, with the total and the seed; None in any other process."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return None if info is None else DataLoaderWorker(info.id, info.num_workers, info.seed - info.id)
