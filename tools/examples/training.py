"""Shared code of both examples: checkpoints, and stopping all ranks after the same step on Ctrl-C."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import nn

from mps_shards import DeviceLoader

__all__ = ["Interrupt", "Recorder", "device_of_rank", "joined_ranks", "load", "save"]


class Interrupt:
    """Records Ctrl-C, and SIGTERM from a cluster, so that the training loop can check for it between two steps."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *failure: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def asked(self, device: torch.device) -> bool:
        """Whether to stop. All ranks get the same answer, so that no rank waits for a rank that has stopped."""
        if not dist.is_initialized():
            return self._asked
        flag = torch.tensor(float(self._asked), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


def joined_ranks() -> int:
    """Join the process group if torchrun started this process, and return the rank; 0 without torchrun."""
    if "RANK" not in os.environ:
        return 0
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank()


def device_of_rank(named: str) -> str:
    """Return the GPU of this rank if ``auto`` was given to several ranks with CUDA, or else the given device."""
    if named == "auto" and dist.is_initialized() and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return named


def save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, loader: DeviceLoader, rank: int) -> None:
    """Write a checkpoint on rank 0, by rename, so that an interrupted write keeps the last checkpoint."""
    if rank:
        return
    part = path.with_name(path.name + ".part")
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}, part)
    os.replace(part, path)


def load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, loader: DeviceLoader) -> int:
    """Load a checkpoint if it exists, and return the epoch to begin with."""
    if not path.exists():
        return 0
    saved = torch.load(path, map_location=loader.device, weights_only=True)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    loader.load_state_dict(saved["loader"])
    epoch: int = saved["loader"]["epoch"]
    return epoch


class Recorder:
    """Appends the keys of each batch to a file, one line per step, to check that a resumed run continues correctly."""

    def __init__(self, path: Path | None):
        self._path = path

    def step(self, keys: Sequence[str]) -> None:
        """Record the keys of a batch that was trained on."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(" ".join(keys) + "\n")
