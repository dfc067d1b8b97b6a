"""What both examples share: stopping on Ctrl-C after a whole step, on all ranks at once, and checkpoints."""

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
    """Turns Ctrl-C, and SIGTERM as a cluster sends it, into a question to be asked between two steps."""

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
        """Whether to stop. All ranks get the same answer, so that none waits for one that has gone."""
        if not dist.is_initialized():
            return self._asked
        flag = torch.tensor(float(self._asked), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)


def joined_ranks() -> int:
    """Our rank, having met the others if torchrun started us; 0 without it."""
    if "RANK" not in os.environ:
        return 0
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank()


def device_of_rank(named: str) -> str:
    """This rank's own GPU where there are several; else what was named."""
    if named == "auto" and dist.is_initialized() and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return named


def save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, loader: DeviceLoader, rank: int) -> None:
    """Write all that resuming needs; the file is whole, or as it was before. The cursor is the same on every rank."""
    if rank:
        return
    part = path.with_name(path.name + ".part")
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}, part)
    os.replace(part, path)


def load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, loader: DeviceLoader) -> int:
    """Go on from a checkpoint, if there is one; the epoch to begin with."""
    if not path.exists():
        return 0
    saved = torch.load(path, map_location=loader.device, weights_only=True)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    loader.load_state_dict(saved["loader"])
    epoch: int = saved["loader"]["epoch"]
    return epoch


class Recorder:
    """Appends the keys of each batch to a file, a line a step: so one sees that a resumed run goes on rightly."""

    def __init__(self, path: Path | None):
        self._path = path

    def step(self, keys: Sequence[str]) -> None:
        """One batch was trained on."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(" ".join(keys) + "\n")
