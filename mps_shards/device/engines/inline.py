"""The consumer's thread issues copy, conversion and event itself: the default on MPS.

MPS has one process-wide in-order queue, so a copy issued by another thread would not overlap any better, and on torch
2.14 a second thread that uses MPS crashes the process (pytorch#197805). What runs in the background is the decoding;
issuing costs about 0.1 ms.
"""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Slot
from mps_shards.device.engines import Flight
from mps_shards.device.engines.torch_device import Device

__all__ = ["InlineEngine", "converted"]


class InlineEngine:
    """Copies each leaf in its own dtype, then converts on the device.

    Args:
        non_blocking: the copy reads the slot when the device executes it, so the slot waits for the event.
        host_conversion: let the workers convert, where the device's division is not exact.
    """

    name = "inline"
    allocates_here = False

    def __init__(self, device: Device, *, ahead: int, non_blocking: bool, host_conversion: bool = False):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.ahead = ahead
        self._device, self._non_blocking = device, non_blocking

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Pages of its own, owned by torch."""
        return self._device.host_memory(nbytes)

    def send(self, batch: HostBatch, slot: Slot, *, blocking: bool = False) -> Flight:
        """Issue everything; the event is behind it all."""
        non_blocking = self._non_blocking and not blocking
        flight = Flight(batch, slot)
        there = [self._device.upload(leaf, non_blocking=non_blocking) for leaf in batch.leaves]
        flight.there = converted(self._device, batch, there)
        flight.event = self._device.record()
        return flight

    def receive(self, flight: Flight) -> tuple[Any, Any]:
        """They are behind the copy in the same queue as the caller's work."""
        there, flight.there = flight.there, []
        return flight.batch.rebuilt(there)

    def finished(self, flight: Flight) -> bool:
        """Whether the device has passed the event."""
        return bool(flight.event.query())

    def close(self) -> None:
        """Nothing was started."""


def converted(device: Device, batch: HostBatch, there: list[torch.Tensor]) -> list[torch.Tensor]:
    """Leaves on the device as they are delivered: pixels float32, label maps int64; the rest as they are."""
    found = []
    for number, leaf in enumerate(there):
        if leaf.dtype == torch.uint8 and number < batch.pixel_leaves:
            images = device.to_float(leaf)
            if batch.image_format.normalize is not None:
                view = images.permute(0, 3, 1, 2) if batch.image_format.channels_last and images.ndim == 4 else images
                device.normalize(view, *batch.image_format.normalize)
            found.append(images)
        else:
            found.append(device.widen(leaf) if leaf.dtype == torch.uint8 else leaf)
    return found
