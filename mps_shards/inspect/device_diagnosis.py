"""Diagnosis of torch, the device and the transfer, as ``mps-shards doctor`` shows it."""

import contextlib
import platform
import statistics
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version

import torch

from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.host_buffers import Recycler, Slot
from mps_shards.device.engines import Engine
from mps_shards.device.engines.torch_device import Device, TorchDevice
from mps_shards.device.selection import choose, engine_for, with_findings
from mps_shards.device.startup_check import check_device
from mps_shards.device.torch_versions import Hazard, hazards_of, parse_version
from mps_shards.errors import DataError, ShardsError

__all__ = ["BATCH_SHAPE", "Diagnosis", "diagnose"]

_PACKAGES = ("mps-shards", "torch", "torchvision", "webdataset", "pillow", "simplejpeg", "numpy")
_ROUNDS = 5
BATCH_SHAPE = (64, 3, 224, 224)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Result of a diagnosis.

    Attributes:
        versions: versions of Python and of the packages that matter.
        device, transfer: what was chosen and why; empty where the device does not exist.
        wrong_values: byte values whose x / 255 is inexact on the device; the workers then convert on the host.
        batch_ms: median time from issuing a batch (of `BATCH_SHAPE`) to having read it back.
        hazards: known problems of this device in this version of torch.
        problems: problems that were found; empty if there are none.
    """

    versions: dict[str, str]
    machine: str
    device: str
    transfer: str
    wrong_values: int | None
    batch_ms: float | None
    hazards: tuple[Hazard, ...]
    problems: tuple[str, ...]


def diagnose(device: str = "auto", transfer: str | None = None, *, on: Device | None = None) -> Diagnosis:
    """Check a device by sending all byte values, batches and labels to the device and back.

    Args:
        on: device implementation to use instead of torch's.
    """
    problems: list[str] = []
    choice = wrong = batch_ms = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            choice = choose(device, transfer)
            there = on or TorchDevice(choice.device)
            found = check_device(there, non_blocking=choice.non_blocking)
            wrong = found.wrong_values
            if choice.engine != "cpu":
                choice = with_findings(choice, found)
            with contextlib.closing(engine_for(choice, there, ahead=0, memory=Recycler(keep=1))) as engine:
                batch_ms = _there_and_back(engine, there)
        except (ShardsError, RuntimeError, TypeError) as error:
            problems.append(str(error))
    return Diagnosis(
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        machine=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=str(choice.device) if choice else "",
        transfer=str(choice) if choice else "",
        wrong_values=wrong,
        batch_ms=batch_ms,
        hazards=tuple(hazards_of(choice.device.type, parse_version(torch.__version__)) if choice else ()),
        problems=(*problems, *dict.fromkeys(str(warning.message) for warning in caught)),
    )


def _there_and_back(engine: Engine, device: Device) -> float:
    """Send batches as a loader does; returns the median milliseconds from issuing a batch to having read it back.

    Raises:
        DataError: a batch came back with other values than ToTensor gives.
    """
    pixels = torch.randint(0, 256, BATCH_SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    slot, times = Slot(0, engine.allocate), []
    for _ in range(_ROUNDS):
        batch = HostBatch(len(pixels), slot.memory, pixels=engine.pixels)
        for row, image in enumerate(pixels):
            batch.put(row, Sample(image, row, str(row)))
        batch.complete()
        began = time.perf_counter()
        flight = engine.send(batch, slot)
        images, labels = engine.receive(flight)
        images, labels = device.read_back(images), device.read_back(labels)
        times.append(time.perf_counter() - began)
        while not engine.finished(flight):
            time.sleep(0.0002)
        wrong = int((images != pixels.to(torch.float32).div(255)).sum()) + int(
            (labels != torch.arange(len(pixels))).sum()
        )
        if wrong:
            raise DataError(f"{wrong} values of a batch of {tuple(BATCH_SHAPE)} came back altered from {device.kind}")
    return 1000 * statistics.median(times)
