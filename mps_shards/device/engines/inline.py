"""The engine whose copies, conversions and events are issued by the consumer's thread: the default on MPS.

MPS has one in-order queue for the whole process, so a copy that another thread issues would not overlap any better,
and on torch 2.14 a second thread that uses MPS crashes the process (pytorch#197805). Decoding runs in the background;
issuing a batch takes about 0.1 ms.
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
        non_blocking: let the device read the host buffer later, when it executes the copy and then records the event.
        host_conversion: let the workers convert pixels, because the device's division is not exact.
    """

    name = "inline"

    def __init__(self, device: Device, *, ahead: int, non_blocking: bool, host_conversion: bool = False):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.ahead = ahead
        self._device, self._non_blocking = device, non_blocking

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return memory on separate pages, owned by torch."""
        return self._device.host_memory(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copies, then the conversions, then the event."""
        non_blocking = self._non_blocking and not blocking
        flight = Flight(batch)
        uploaded = [self._device.upload(leaf, non_blocking=non_blocking) for leaf in batch.leaves]
        flight.device_tensors = converted(self._device, batch, uploaded)
        flight.event = self._device.record()
        return flight

    def receive(self, flight: Flight) -> Any:
        """Return the tensors at once: the device queues the caller's work after the copies."""
        device_tensors, flight.device_tensors = flight.device_tensors, []
        return flight.batch.rebuilt(device_tensors)

    def finished(self, flight: Flight) -> bool:
        """Whether the device has passed the event."""
        return bool(flight.event.query())

    def close(self) -> None:
        """Do nothing: this engine starts no thread."""


def converted(device: Device, batch: HostBatch, uploaded: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the leaves to deliver: pixels as float32, label maps as int64, all others as they were uploaded."""
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
