"""Which device, which engine, and why: decided once, said aloud."""

import multiprocessing
import platform
from dataclasses import dataclass

import torch

from mps_shards.errors import ConfigError
from mps_shards.feed.engines import Engine
from mps_shards.feed.engines.cpu import CpuEngine
from mps_shards.feed.engines.inline import InlineEngine, TorchDevice

__all__ = ["Choice", "choose", "engine_for", "parse_version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How batches get to the device.

    Attributes:
        engine: "cpu" or "inline".
        non_blocking: whether a copy may still read its slot after it was issued.
        because: the reasons, for people.
    """

    device: torch.device
    engine: str
    non_blocking: bool
    because: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.device} by the {self.engine} engine ({'; '.join(self.because)})"


def choose(device: str | torch.device, transfer: str | None) -> Choice:
    """The device and engine for what the user asked.

    Args:
        device: "auto" takes MPS, else CUDA, else the CPU.
        transfer: an engine's name, or None for the device's default.

    Raises:
        ConfigError: no such device here, with the reason and a remedy; or an engine that it cannot use.
    """
    because = []
    if str(device) == "auto":
        device = "mps" if _missing_mps() is None else "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            because.append(f"no MPS: {_missing_mps()}; no CUDA device")
        else:
            because.append("found first")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}: use auto, mps, cuda, cuda:1 or cpu") from error
    _check_present(chosen)
    if chosen.type != "cpu" and multiprocessing.parent_process() is not None and _in_torch_worker():
        because.append(f"inside a DataLoader worker, where {chosen.type} must not be touched")
        chosen = torch.device("cpu")
    default = "cpu" if chosen.type == "cpu" else "inline"
    engine = transfer or default
    if engine not in ("cpu", "inline") or (engine == "cpu" and chosen.type != "cpu"):
        raise ConfigError(f"transfer={engine!r} cannot serve {chosen}; leave it out for {default!r}")
    non_blocking = False
    if chosen.type == "mps":
        version = parse_version(torch.__version__)
        # before 2.13 a non-blocking copy does not keep its source alive (pytorch#189690, #139550; kept since #181017)
        non_blocking = version >= (2, 13)
        because.append(f"torch {torch.__version__}: {'non-blocking' if non_blocking else 'blocking'} copies")
    return Choice(device=chosen, engine=engine, non_blocking=non_blocking, because=tuple(because))


def engine_for(choice: Choice, *, ahead: int, slots: int) -> Engine:
    """The engine, made for this choice."""
    if choice.engine == "cpu":
        return CpuEngine(slots=slots)
    return InlineEngine(TorchDevice(choice.device), ahead=ahead, non_blocking=choice.non_blocking)


def parse_version(text: str) -> tuple[int, int]:
    """(major, minor) of a torch version such as ``2.14.1+cu130`` or ``2.15.0a0+git1234``."""
    major, minor, *_ = text.split("+")[0].split(".")
    return int(major), int("".join(digit for digit in minor if digit.isdigit()))


def _check_present(device: torch.device) -> None:
    if device.type == "mps":
        reason = _missing_mps()
        if reason is not None:
            raise ConfigError(f"device 'mps' is not here: {reason}; use device='auto' or 'cpu'")
    elif device.type == "cuda":
        if not torch.cuda.is_available():
            reason = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no NVIDIA GPU"
            raise ConfigError(f"device {str(device)!r} is not here: {reason}; use device='auto' or 'cpu'")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ConfigError(f"device {str(device)!r} is not here: torch sees {torch.cuda.device_count()} GPUs")
    elif device.type != "cpu":
        raise ConfigError(f"device {str(device)!r} is not served: use auto, mps, cuda or cpu")


def _missing_mps() -> str | None:
    """Why torch has no MPS here; None where it has."""
    if torch.backends.mps.is_available():
        return None
    if not torch.backends.mps.is_built():
        return f"torch {torch.__version__} for {platform.system()} {platform.machine()} was built without it"
    return "torch has it, but finds no Metal GPU, or macOS is too old (14 or later is needed)"


def _in_torch_worker() -> bool:
    return torch.utils.data.get_worker_info() is not None
