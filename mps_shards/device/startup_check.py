"""Checks that a device receives batches unchanged: once at the start, and on request for every batch."""

import warnings
from dataclasses import dataclass

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.tensor_layout import Conversion
from mps_shards.device.engines.torch_device import Device
from mps_shards.errors import DataError

__all__ = ["CheckResult", "check_arrived", "check_device"]

_INT64 = torch.iinfo(torch.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of the start-up check.

    Attributes:
        non_blocking: whether non-blocking copies were requested and arrive unchanged.
        host_conversion: whether workers must convert pixels, since the device's division differs from ToTensor's.
        wrong_values: number of byte values 0..255 that the device's division gets wrong.
    """

    non_blocking: bool
    host_conversion: bool
    wrong_values: int


def check_device(device: Device, *, non_blocking: bool) -> CheckResult:
    """Copy all 256 byte values, a random batch and labels to the device and back, and compare them with ToTensor.

    Warns and falls back to copies that block, or to conversion by the workers, if the faster way is not exact.

    Raises:
        DataError: even copies that block arrive changed.
    """
    if non_blocking and not _copies(device, non_blocking=True):
        warnings.warn(f"non-blocking copies to {device.kind} do not arrive unaltered: copies will block", stacklevel=2)
        non_blocking = False
    if not non_blocking and not _copies(device, non_blocking=False):
        raise DataError(f"copies to {device.kind} do not arrive unaltered: this device cannot be trusted")
    wrong = _wrong_values(device, non_blocking=non_blocking)
    if wrong:
        warnings.warn(
            f"{device.kind} gets {wrong} of 256 values of x / 255 wrong: workers will convert instead", stacklevel=2
        )
    return CheckResult(non_blocking=non_blocking, host_conversion=bool(wrong), wrong_values=wrong)


def check_arrived(device: Device, batch: HostBatch, delivered: object, *, number: int) -> None:
    """Compare a delivered batch with its host buffer. Waits for the device.

    Raises:
        DataError: values differ; the error names the batch and how many.
    """
    for number_of_leaf, (sent, tensor) in enumerate(zip(batch.leaves, batch.delivered_leaves(delivered), strict=True)):
        back = device.read_back(tensor)
        expected = batch.arranged(number_of_leaf, sent)
        if batch.conversions[number_of_leaf] is Conversion.TO_FLOAT:
            expected = expected.div(255)
            if batch.image_format.normalize is not None:
                mean, std = batch.image_format.normalize
                expected = expected.sub(mean).div(std)
        expected = expected.to(back.dtype)
        different = int((back != expected).sum())
        if different:
            raise DataError(
                f"batch {number} arrived altered on {device.kind}: {different} of {back.numel()} values differ "
                f"(samples {batch.keys[0]!r} to {batch.keys[-1]!r})"
            )


def _copies(device: Device, *, non_blocking: bool) -> bool:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1 << 20,), dtype=torch.uint8, generator=generator)
    labels = torch.randint(_INT64.min, _INT64.max, (1024,), dtype=torch.int64, generator=generator)
    for values in (pixels, labels):
        sent = device.host_memory(values.numel() * values.itemsize)[: values.numel() * values.itemsize]
        sent = sent.view(values.dtype)
        sent.copy_(values)
        if not torch.equal(device.read_back(device.upload(sent, non_blocking=non_blocking)), values):
            return False
    return True


def _wrong_values(device: Device, *, non_blocking: bool) -> int:
    values = device.host_memory(256)[:256]
    values.copy_(torch.arange(256, dtype=torch.uint8))
    back = device.read_back(device.to_float(device.upload(values, non_blocking=non_blocking)))
    return int((back != values.to(torch.float32).div(255)).sum())
