"""The consumer's thread issues copy, conversion and event itself: the default on MPS.

MPS has one in-order queue for the whole process, so a copy that another thread issues would not overlap any better, and
on torch 2.14 a second thread that uses MPS crashes the process (pytorch#197805). Decoding is what runs in the
background; issuing a batch takes about 0.1 ms.
"""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.tensor_layout import Conversion
from mps_shards.device.engines import Flight
from mps_shards.device.engines.torch_device import Device

__all__ = ["InlineEngine", "converted"]


class InlineEngine:
    """Copies each leaf in its own dtype, then converts on the device.

    Args:
        non_blocking: the device reads the host buffer when it executes the copy, so the buffer waits for the event.
        host_conversion: let the workers convert pixels, where the device's division is not exact.
    """

    name = "inline"

    def __init__(self, device: Device, *, ahead: int, non_blocking: bool, host_conversion: bool = False):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.ahead = ahead
        self._device, self._non_blocking = device, non_blocking

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Memory on pages of its own, owned by torch."""
        return self._device.host_memory(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copies, the conversions and, after them, the event."""
        non_blocking = self._non_blocking and not blocking
        flight = Flight(batch)
        uploaded = [self._device.upload(leaf, non_blocking=non_blocking) for leaf in batch.leaves]
        flight.device_tensors = converted(self._device, batch, uploaded)
        flight.event = self._device.record()
        return flight

    def receive(self, flight: Flight) -> Any:
        """The tensors: the caller's work is queued after the copies."""
        device_tensors, flight.device_tensors = flight.device_tensors, []
        return flight.batch.rebuilt(device_tensors)

    def finished(self, flight: Flight) -> bool:
        """Whether the device has passed the event."""
        return bool(flight.event.query())

    def close(self) -> None:
        """Nothing was started."""


def converted(device: Device, batch: HostBatch, uploaded: list[torch.Tensor]) -> list[torch.Tensor]:
    """The leaves as they are delivered: pixels float32, label maps int64, everything else as it was uploaded."""
    delivered = []
    for number, (leaf, conversion) in enumerate(zip(uploaded, batch.conversions, strict=True)):
        if conversion is Conversion.TO_FLOAT:
            images = device.to_float(leaf)
            if batch.image_format.normalize is not None:
                device.normalize(batch.arranged(number, images), *batch.image_format.normalize)
            delivered.append(images)
        else:
            delivered.append(device.widen(leaf) if conversion is Conversion.TO_INT64 else leaf)
    return delivered
