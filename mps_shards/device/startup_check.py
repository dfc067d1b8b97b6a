"""Checks that batches arrive on a device unchanged: once at the start, and on request for each batch."""

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
        host_conversion: whether workers must convert pixels, because the device's division differs from ToTensor's.
        wrong_values: number of the values 0..255 for which the device's division is wrong.
    """

    non_blocking: bool
    host_conversion: bool
    wrong_values: int


def check_device(device: Device, *, non_blocking: bool) -> CheckResult:
    """Check that a device receives random bytes and labels unchanged, and divides by 255 as ToTensor does.

    If the faster way is not exact, a warning is given, and the result requests copies that block, or conversion by the
    workers.

    Args:
        device: the device.
        non_blocking: whether non-blocking copies are to be used.

    Raises:
        DataError: even copies that block change values.
    """
    if non_blocking and not _copies(device, non_blocking=True):
        warnings.warn(f"non-blocking copies to {device.kind} change values: copies will block instead", stacklevel=2)
        non_blocking = False
    if not non_blocking and not _copies(device, non_blocking=False):
        raise DataError(f"copies to {device.kind} change values: use another device or another version of torch")
    wrong = _wrong_values(device, non_blocking=non_blocking)
    if wrong:
        warnings.warn(
            f"{device.kind} computes {wrong} of 256 values of x / 255 wrongly: workers will convert pixels instead",
            stacklevel=2,
        )
    return CheckResult(non_blocking=non_blocking, host_conversion=bool(wrong), wrong_values=wrong)


def check_arrived(device: Device, batch: HostBatch, delivered: object, *, number: int) -> None:
    """Compare a delivered batch with its host buffer, bit for bit. Waits for the device.

    Args:
        device: the device.
        batch: the batch, whose host buffer still holds it.
        delivered: the batch on the device, as the training loop gets it.
        number: number of the batch in the iteration, for messages.

    Raises:
        DataError: values differ; the message names the batch and the number of wrong values.
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
                f"batch {number} changed on its way to {device.kind}: {different} of {back.numel()} values differ "
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
