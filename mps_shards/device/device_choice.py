"""Choice of the device and the transfer engine, with the reasons for the choice."""

import platform
import warnings
from dataclasses import dataclass, replace

import torch

from mps_shards.batching.host_buffers import Recycler
from mps_shards.device.engines import Engine
from mps_shards.device.engines.cpu import CpuEngine
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.engines.thread import ThreadEngine
from mps_shards.device.engines.torch_device import Device
from mps_shards.device.startup_check import CheckResult
from mps_shards.device.torch_versions import LAST_KNOWN, non_blocking_is_safe, parse_version
from mps_shards.errors import ConfigError

__all__ = ["ENGINES", "Choice", "choose", "engine_for", "missing_mps", "parse_device", "with_check_result"]

# Values of DeviceLoader(transfer=...); with "-blocking" after the name, copies block
ENGINES = ("cpu", "inline", "thread")
_DEFAULTS = {"cpu": "cpu", "mps": "inline", "cuda": "thread"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen device and transfer engine, and how they are used.

    Attributes:
        device: device to which batches are sent.
        engine: name of the engine, one of `ENGINES`.
        non_blocking: whether copies are non-blocking, so that they may read their host buffers after they are issued.
        host_conversion: whether the workers convert pixels to float32, instead of the device.
        verify: number of first batches that are compared with their host buffers after the copy.
        reasons: reasons for the choice, for `DeviceLoader.explain`.
    """

    device: torch.device
    engine: str
    non_blocking: bool
    host_conversion: bool
    verify: int
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        copies = "no copy" if self.engine == "cpu" else f"{'non-' if self.non_blocking else ''}blocking copies"
        where = "the workers" if self.host_conversion else "the device"
        reasons = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{self.device} by the {self.engine} engine, {copies}, pixels converted by {where}{reasons}"


def choose(
    device: str | torch.device, transfer: str | None, *, verify: int = 0, torch_version: str = torch.__version__
) -> Choice:
    """Return the device and the transfer engine for a user's options.

    Args:
        device: a torch device, or "auto" for MPS, or CUDA if there is no MPS, or otherwise the CPU.
        transfer: name of an engine, followed by ``-blocking`` for copies that block; None for the device's default.
        verify: number of first batches to compare with their host buffers after the copy.
        torch_version: version of torch, which decides about known defects.

    Raises:
        ConfigError: this machine has no such device, or the engine does not support the device.
    """
    reasons: list[str] = []
    chosen = _device(device, reasons)
    version = parse_version(torch_version)
    if chosen.type != "cpu" and torch.utils.data.get_worker_info() is not None:
        reasons.append(f"this process is a DataLoader worker, which must not use {chosen.type}")
        chosen = torch.device("cpu")
    name, blocking, rest = (transfer or _DEFAULTS[chosen.type]).partition("-blocking")
    usable = {"cpu": ("cpu", "inline", "thread"), "mps": ("inline", "thread"), "cuda": ("inline", "thread")}
    if name not in usable[chosen.type] or rest:
        raise ConfigError(
            f"transfer={transfer!r} is not available for {chosen}: use {', '.join(usable[chosen.type])}, or leave "
            f"transfer= out for {_DEFAULTS[chosen.type]!r}"
        )
    if name == "thread" and chosen.type == "mps":
        reasons.append("a second thread on MPS can crash torch 2.14 (pytorch#197805)")
        warnings.warn(f"transfer='thread': {reasons[-1]}; leave transfer= out for the default engine", stacklevel=3)
    non_blocking = not blocking and non_blocking_is_safe(chosen.type, version)
    if chosen.type != "cpu":
        reasons.append(f"torch {torch_version}")
        if version is None or version > LAST_KNOWN:
            verify = max(verify, 1)
            reasons.append(f"the version is later than {LAST_KNOWN[0]}.{LAST_KNOWN[1]}, so the first batch is verified")
    return Choice(
        device=chosen,
        engine=name,
        non_blocking=non_blocking,
        host_conversion=name == "cpu",
        verify=verify,
        reasons=tuple(reasons),
    )


def with_check_result(choice: Choice, result: CheckResult) -> Choice:
    """Return the choice with blocking copies or conversion by the workers, if the start-up check shows the need."""
    reasons = choice.reasons
    if result.wrong_values:
        reasons += (f"the device computes {result.wrong_values} of 256 values of x / 255 wrongly",)
    if choice.non_blocking and not result.non_blocking:
        reasons += ("non-blocking copies changed values",)
    return replace(choice, non_blocking=result.non_blocking, host_conversion=result.host_conversion, reasons=reasons)


def engine_for(choice: Choice, device: Device | None, device_batches: int, recycler: Recycler) -> Engine:
    """Return a new engine for this choice.

    Args:
        choice: device and engine, and how they are used.
        device: device to copy to; None if the batches stay on the CPU.
        device_batches: number of batches to send to the device before the oldest one is delivered.
        recycler: memory in which batches that stay on the CPU are delivered.
    """
    if choice.engine == "cpu" or device is None:
        return CpuEngine(recycler)
    kind = ThreadEngine if choice.engine == "thread" else InlineEngine
    return kind(
        device,
        device_batches=device_batches,
        non_blocking=choice.non_blocking,
        host_conversion=choice.host_conversion,
    )


def missing_mps() -> str | None:
    """Return the reason why torch cannot use MPS on this machine; None if it can."""
    if torch.backends.mps.is_available():
        return None
    if not torch.backends.mps.is_built():
        return f"torch {torch.__version__} for {platform.system()} {platform.machine()} was built without MPS"
    return "torch was built with MPS, but finds no Metal GPU, or macOS is older than 14"


def parse_device(device: str | torch.device) -> torch.device:
    """Return the device of this name, whether this machine has it or not.

    Raises:
        ConfigError: the device is none of MPS, CUDA and the CPU.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in _DEFAULTS:
        raise ConfigError(f"unknown device {str(device)!r}: use auto, mps, cuda, cuda:1 or cpu")
    return chosen


def _device(device: str | torch.device, reasons: list[str]) -> torch.device:
    if str(device) == "auto":
        missing = missing_mps()
        device = "mps" if missing is None else "cuda" if torch.cuda.is_available() else "cpu"
        reasons.append(
            "the first available device of MPS, CUDA and CPU"
            if device != "cpu"
            else f"there is no MPS, because {missing}, and no CUDA device"
        )
    chosen = parse_device(device)
    reason = None
    if chosen.type == "mps":
        reason = missing_mps()
    elif chosen.type == "cuda" and not torch.cuda.is_available():
        reason = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no NVIDIA GPU"
    elif chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        reason = f"torch sees {torch.cuda.device_count()} GPUs"
    if reason:
        raise ConfigError(f"device {str(chosen)!r} cannot be used: {reason}; use device='auto' or 'cpu'")
    return chosen
