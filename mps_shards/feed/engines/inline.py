"""The consumer's thread issues copy, conversion and event itself: the default on MPS.

MPS has one process-wide in-order queue, so a copy issued by another thread would not overlap any better, and on torch
2.14 a second thread that uses MPS crashes the process (pytorch#197805). What runs in the background is the decoding;
issuing costs about 0.1 ms.
"""

from typing import Any, Protocol

import torch

from mps_shards.feed.batch import HostBatch
from mps_shards.feed.engines import Flight
from mps_shards.feed.slots import Slot, page_aligned

__all__ = ["Device", "Event", "InlineEngine", "TorchDevice"]


class Event(Protocol):
    """A mark in a device's queue."""

    def query(self) -> bool:
        """Whether the device has passed it. Does not wait."""
        ...


class Device(Protocol):
    """What an engine needs of a device. All of it happens in the device's queue, in order."""

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """A fresh tensor on the device with the values of `source`, of the same dtype."""
        ...

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """ToTensor: uint8 on the device -> float32, exactly x / 255."""
        ...

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        """uint8 on the device -> int64."""
        ...

    def record(self) -> Event:
        """Mark this point of the queue."""
        ...


class TorchDevice:
    """MPS, CUDA, or the CPU as a device whose copies block."""

    def __init__(self, device: torch.device):
        self.device = device
        # by a tensor: CUDA divides by a Python number through its reciprocal, which is not exact (TRANSFER.md, 10)
        self._divisor = torch.tensor(255.0, device=device)

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """See `Device`."""
        return source.to(self.device, non_blocking=non_blocking, copy=True)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """See `Device`."""
        return pixels.to(torch.float32).div_(self._divisor)

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        """See `Device`."""
        return labels.to(torch.int64)

    def record(self) -> Event:
        """See `Device`."""
        if self.device.type == "cpu":
            return _Passed()
        event: Any = torch.mps.Event() if self.device.type == "mps" else torch.cuda.Event()
        event.record()  # before anybody asks: an event that was not recorded answers True (TRANSFER.md, 6)
        return event  # type: ignore[no-any-return]  # of torch, untyped


class _Passed:
    def query(self) -> bool:
        return True


class InlineEngine:
    """Copies each leaf in its own dtype, then converts on the device.

    Args:
        host_conversion: let the workers convert, where the device's division is not exact.
        non_blocking: the copy reads the slot when the device executes it, so the slot waits for the event.
    """

    name = "inline"

    def __init__(self, device: Device, *, ahead: int, non_blocking: bool, host_conversion: bool = False):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.ahead = ahead
        self._device, self._non_blocking = device, non_blocking

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Pages of its own, owned by torch."""
        return page_aligned(nbytes)

    def send(self, batch: HostBatch, slot: Slot) -> tuple[tuple[Any, Any], Flight]:
        """Issue everything; the event is behind it all."""
        tensors = []
        for number, leaf in enumerate(batch.leaves):
            there = self._device.upload(leaf, non_blocking=self._non_blocking)
            if leaf.dtype == torch.uint8:
                there = self._device.to_float(there) if number < batch.pixel_leaves else self._device.widen(there)
            tensors.append(there)
        return batch.rebuilt(tensors), Flight(slot, self._device.record(), list(batch.leaves))

    def finished(self, flight: Flight) -> bool:
        """Whether the device has passed the event."""
        return bool(flight.event.query())
