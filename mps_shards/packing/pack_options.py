"""How to pack, checked at once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mps_shards.errors import ConfigError
from mps_shards.packing.plan import Keys, parse_size
from mps_shards.packing.sample_fields import NO_OPTIONS, FieldOptions
from mps_shards.packing.sources import Layout
from mps_shards.packing.splits import parse_split
from mps_shards.shards.keyed import check_seed

__all__ = ["Distributor", "OnBadSample", "PackOptions"]

Distributor: TypeAlias = Literal["local", "ray", "array"]
OnBadSample: TypeAlias = Literal["fail", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How to pack; `mps_shards.packing` documents each. What decides bytes comes first, who does the work behind it."""

    layout: Layout = "auto"
    shard_size: str | int = "256MB"
    shard_samples: int | None = None
    shuffle: bool = True
    seed: int = 0
    keys: Keys = "stem"
    split: str | None = None
    drop_duplicates: bool = False
    fields: FieldOptions = NO_OPTIONS
    on_bad_sample: OnBadSample = "fail"
    overwrite: bool = False
    work_dir: Path | None = None
    distributor: Distributor = "local"
    workers: int | None = None
    ray_address: str | None = None
    task_index: int | None = None
    num_tasks: int | None = None

    def __post_init__(self) -> None:
        parse_size(self.shard_size)
        check_seed(self.seed)
        if self.split is not None:
            parse_split(self.split)
        for name in ("shard_samples", "workers", "num_tasks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        for name, choices in (("keys", Keys), ("on_bad_sample", OnBadSample), ("distributor", Distributor)):
            if getattr(self, name) not in get_args(choices):
                allowed = ", ".join(map(repr, get_args(choices)))
                raise ConfigError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        self._check_distributor()

    def _check_distributor(self) -> None:
        if self.ray_address is not None and self.distributor != "ray":
            raise ConfigError(f"a Ray address goes with the distributor 'ray', not {self.distributor!r}")
        if self.distributor != "array":
            if self.task_index is not None or self.num_tasks is not None:
                raise ConfigError(f"task numbers go with the distributor 'array', not {self.distributor!r}")
            return
        if self.task_index is None or self.num_tasks is None:
            raise ConfigError("the distributor 'array' needs a task index and the number of tasks")
        if not 0 <= self.task_index < self.num_tasks:
            last = self.num_tasks - 1
            raise ConfigError(f"task index {self.task_index} is not in 0 to {last}, as {self.num_tasks} tasks have")
        if self.overwrite:
            raise ConfigError("tasks of an array cannot overwrite, they would wipe each other out; remove the old set")

    @property
    def threads(self) -> int:
        """Shards that this machine makes at a time."""
        return self.workers or min(8, os.cpu_count() or 1)
