"""The engine that issues copies, conversions and events in the consumer's thread, which is the default on MPS.

MPS has one in-order queue for the complete process, so a copy that another thread issues would not overlap any better,
and on torch 2.14 a second thread that uses MPS crashes the process (pytorch#197805). Issuing a batch takes about
0.1 ms; decoding still runs in worker threads.
"""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.tensor_layout import Conversion
from mps_shards.device.engines import Flight
from mps_shards.device.engines.torch_device import Device

__all__ = ["InlineEngine", "converted"]


class InlineEngine:
    """Copies each tensor of a batch in its dtype, and converts it on the device. See `Engine`.

    Args:
        device: device to copy to.
        device_batches: number of batches to send to the device before the oldest one is delivered.
        non_blocking: let the device read the host buffer later, when it executes the copy and then records the event.
        host_conversion: let the workers convert pixels, because the device's division is not exact.
    """

    name = "inline"

    def __init__(self, device: Device, *, device_batches: int, non_blocking: bool, host_conversion: bool = False):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.device_batches = device_batches
        self._device, self._non_blocking = device, non_blocking

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return the host memory from which the device copies fastest."""
        return self._device.host_memory(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copies, the conversions, and an event that follows them."""
        non_blocking = self._non_blocking and not blocking
        flight = Flight(batch)
        uploaded = [self._device.upload(leaf, non_blocking=non_blocking) for leaf in batch.leaves]
        flight.device_tensors = converted(self._device, batch, uploaded)
        flight.event = self._device.record()
        return flight

    def receive(self, flight: Flight) -> Any:
        """Return the batch without waiting, because the device executes the caller's work after the copies."""
        device_tensors, flight.device_tensors = flight.device_tensors, []
        return flight.batch.rebuilt(device_tensors)

    def finished(self, flight: Flight) -> bool:
        """Whether the device has passed the event."""
        return bool(flight.event.query())

    def close(self) -> None:
        """Do nothing, because this engine starts no thread."""


def converted(device: Device, batch: HostBatch, uploaded: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors to deliver, from those on the device: pixels become float32, and label maps int64."""
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
