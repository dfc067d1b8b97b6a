"""Which device, which engine, and why: decided once, said aloud."""

import platform
import warnings
from dataclasses import dataclass, replace

import torch

from mps_shards.batching.host_buffers import Recycler
from mps_shards.device.engines import Engine
from mps_shards.device.engines.alias import AliasEngine
from mps_shards.device.engines.cpu import CpuEngine
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.engines.thread import ThreadEngine
from mps_shards.device.engines.torch_device import Device
from mps_shards.device.startup_check import Checked
from mps_shards.device.torch_versions import LAST_KNOWN, non_blocking_is_safe, parse_version
from mps_shards.errors import ConfigError

__all__ = ["ENGINES", "Choice", "choose", "engine_for", "missing_mps", "with_findings"]

# transfer= takes these; "-blocking" behind a name lets copies block.
ENGINES = ("cpu", "inline", "thread", "alias")
_DEFAULTS = {"cpu": "cpu", "mps": "inline", "cuda": "thread"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How batches get to the device.

    Attributes:
        engine: one of `ENGINES`.
        non_blocking: whether a copy may still read its slot after it was issued.
        host_conversion: whether the workers convert pixels to float32.
        verify: how many first batches are compared with what was sent.
        because: the reasons, for people.
    """

    device: torch.device
    engine: str
    non_blocking: bool
    host_conversion: bool
    verify: int
    because: tuple[str, ...]

    def __str__(self) -> str:
        copies = "no copy" if self.engine == "cpu" else f"{'non-' if self.non_blocking else ''}blocking copies"
        where = "the workers" if self.host_conversion else "the device"
        reasons = f" ({'; '.join(self.because)})" if self.because else ""
        return f"{self.device} by the {self.engine} engine, {copies}, pixels converted by {where}{reasons}"


def choose(
    device: str | torch.device, transfer: str | None, *, verify: int = 0, torch_version: str = torch.__version__
) -> Choice:
    """The device and engine for what the user asked.

    Args:
        device: "auto" takes MPS, else CUDA, else the CPU.
        transfer: an engine's name, with ``-blocking`` behind it for copies that block; None for the device's default.
        verify: first batches to compare with what was sent.

    Raises:
        ConfigError: no such device here, with the reason and a remedy; or an engine that it cannot use.
    """
    because: list[str] = []
    chosen = _device(device, because)
    version = parse_version(torch_version)
    if chosen.type != "cpu" and torch.utils.data.get_worker_info() is not None:
        because.append(f"inside a DataLoader worker, where {chosen.type} must not be touched")
        chosen = torch.device("cpu")
    name, blocking, rest = (transfer or _DEFAULTS[chosen.type]).partition("-blocking")
    usable = {"cpu": ("cpu", "inline", "thread"), "mps": ("inline", "thread", "alias"), "cuda": ("inline", "thread")}
    if name not in usable[chosen.type] or rest:
        raise ConfigError(
            f"transfer={transfer!r} cannot serve {chosen}: use {', '.join(usable[chosen.type])}, "
            f"or leave it out for {_DEFAULTS[chosen.type]!r}"
        )
    if name == "alias" and version is not None and version < (2, 13):
        raise ConfigError(f"transfer='alias' needs torch 2.13 or later, this is {torch_version}; leave it out")
    if name == "thread" and chosen.type == "mps":
        because.append("a second thread on MPS can crash torch 2.14 (pytorch#197805)")
        warnings.warn(f"transfer='thread': {because[-1]}; leave it out unless you know better", stacklevel=3)
    non_blocking = not blocking and non_blocking_is_safe(chosen.type, version)
    if chosen.type != "cpu":
        because.append(f"torch {torch_version}")
        if version is None or version > LAST_KNOWN:
            verify = max(verify, 1)
            because.append(f"later than {LAST_KNOWN[0]}.{LAST_KNOWN[1]}, so the first batch is verified")
    return Choice(
        device=chosen,
        engine=name,
        non_blocking=non_blocking,
        host_conversion=name == "cpu",
        verify=verify,
        because=tuple(because),
    )


def with_findings(choice: Choice, found: Checked) -> Choice:
    """The choice, with what the start-up check found on this device."""
    because = choice.because
    if found.wrong_values:
        because += (f"the device gets {found.wrong_values} of 256 values of x / 255 wrong",)
    if choice.non_blocking and not found.non_blocking:
        because += ("non-blocking copies did not arrive unaltered",)
    return replace(choice, non_blocking=found.non_blocking, host_conversion=found.host_conversion, because=because)


def engine_for(choice: Choice, device: Device | None, *, ahead: int, memory: Recycler) -> Engine:
    """The engine, made for this choice.

    Args:
        device: None for the CPU's own engine.
        memory: what that engine gives away and gets back.
    """
    if choice.engine == "cpu" or device is None:
        return CpuEngine(memory)
    if choice.engine == "alias":
        return AliasEngine(device, ahead=ahead, host_conversion=choice.host_conversion)
    kind = ThreadEngine if choice.engine == "thread" else InlineEngine
    return kind(device, ahead=ahead, non_blocking=choice.non_blocking, host_conversion=choice.host_conversion)


def missing_mps() -> str | None:
    """Why torch has no MPS here; None where it has."""
    if torch.backends.mps.is_available():
        return None
    if not torch.backends.mps.is_built():
        return f"torch {torch.__version__} for {platform.system()} {platform.machine()} was built without it"
    return "torch has it, but finds no Metal GPU, or macOS is too old (14 or later is needed)"


def _device(device: str | torch.device, because: list[str]) -> torch.device:
    if str(device) == "auto":
        missing = missing_mps()
        device = "mps" if missing is None else "cuda" if torch.cuda.is_available() else "cpu"
        because.append("the first that is here" if device != "cpu" else f"no MPS: {missing}; no CUDA device")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}: use auto, mps, cuda, cuda:1 or cpu") from error
    reason = None
    if chosen.type == "mps":
        reason = missing_mps()
    elif chosen.type == "cuda" and not torch.cuda.is_available():
        reason = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no NVIDIA GPU"
    elif chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        reason = f"torch sees {torch.cuda.device_count()} GPUs"
    elif chosen.type not in _DEFAULTS:
        reason = "only MPS, CUDA and the CPU are served"
    if reason:
        raise ConfigError(f"device {str(chosen)!r} cannot be used: {reason}; use device='auto' or 'cpu'")
    return chosen
