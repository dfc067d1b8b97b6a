"""Checks of torch, the device and the transfer of batches, for ``mps-shards doctor``."""

import contextlib
import platform
import statistics
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version

import torch

from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.host_buffers import HostBuffer, Recycler
from mps_shards.device.device_choice import choose, engine_for, with_check_result
from mps_shards.device.engines import Engine
from mps_shards.device.engines.torch_device import Device, TorchDevice
from mps_shards.device.startup_check import check_device
from mps_shards.device.torch_versions import Hazard, hazards_of, parse_version
from mps_shards.errors import DataError, ShardsError

__all__ = ["BATCH_SHAPE", "Diagnosis", "diagnose"]

_PACKAGES = ("mps-shards", "torch", "torchvision", "webdataset", "pillow", "simplejpeg", "numpy")
_ROUNDS = 5
_PAUSE_S = 0.0002  # pause between two queries of an event
BATCH_SHAPE = (64, 3, 224, 224)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The result of a check of a device.

    Attributes:
        versions: versions of Python and of the packages that matter for loading.
        device, transfer: chosen device and transfer with reasons; empty if this machine has no such device.
        wrong_values: number of byte values that the device converts to a wrong x / 255; if any, the workers convert.
        batch_ms: median time for sending a batch of `BATCH_SHAPE` and reading it back.
        hazards: known defects of this version of torch that concern the device.
        problems: problems that were found.
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
    """Check a device by copying all byte values, batches and labels to the device and back.

    Args:
        on: the device to check instead of torch's, such as a simulated one.
    """
    problems: list[str] = []
    choice = wrong = batch_ms = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            choice = choose(device, transfer)
            checked = on or TorchDevice(choice.device)
            result = check_device(checked, non_blocking=choice.non_blocking)
            wrong = result.wrong_values
            if choice.engine != "cpu":
                choice = with_check_result(choice, result)
            with contextlib.closing(engine_for(choice, checked, device_batches=0, recycler=Recycler(keep=1))) as engine:
                batch_ms = _round_trip_ms(engine, checked)
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


def _round_trip_ms(engine: Engine, device: Device) -> float:
    """Return the median milliseconds for sending a batch like a loader and reading it back.

    Raises:
        DataError: the batch that was read back differs from ToTensor's result.
    """
    pixels = torch.randint(0, 256, BATCH_SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    buffer, times = HostBuffer(0, engine.allocate), []
    for _ in range(_ROUNDS):
        batch = HostBatch(range(len(pixels)), buffer.memory, pixels=engine.pixels)
        batch.buffer = buffer
        for row, image in enumerate(pixels):
            batch.put(row, Sample(image, row, str(row)))
        batch.complete()
        began = time.perf_counter()
        flight = engine.send(batch)
        images, labels = engine.receive(flight)
        images, labels = device.read_back(images), device.read_back(labels)
        times.append(time.perf_counter() - began)
        while not engine.finished(flight):
            time.sleep(_PAUSE_S)
        wrong_pixels = int((images != pixels.to(torch.float32).div(255)).sum())
        wrong_labels = int((labels != torch.arange(len(pixels))).sum())
        if wrong_pixels or wrong_labels:
            raise DataError(
                f"{wrong_pixels + wrong_labels} values of a batch of {tuple(BATCH_SHAPE)} "
                f"came back altered from {device.kind}"
            )
    return 1000 * statistics.median(times)
