"""Engines: how a batch gets from a slot to a device. One file each, behind one small contract."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Slot

__all__ = ["Engine", "Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """A batch on its way, or arrived.

    Attributes:
        batch: what is sent. Holds the host tensors, so that a source lives as long as this flight.
        slot: where it lies; must not be written or freed before `Engine.finished`.
        there: one tensor a leaf on the device, until they are received.
        event: recorded behind the copy on the device; None where there was nothing to copy, or it is not issued yet.
        failure: what went wrong in another thread, until it is received.
    """

    batch: HostBatch
    slot: Slot
    there: list[torch.Tensor] = field(default_factory=list)
    event: Any = None
    failure: BaseException | None = None
    sent_at: float = field(default_factory=time.perf_counter)


class Engine(Protocol):
    """Moves batches to one device. Called from the consumer's thread, but for `allocate`.

    Attributes:
        name: as `transfer=` takes it.
        pixels: dtype of pixels in the slots: float32 where workers convert them, uint8 where the device does.
        ahead: batches to issue before the oldest is returned.
        allocates_here: `allocate` touches the device, so it too must run in the consumer's thread.
    """

    name: str
    pixels: torch.dtype
    ahead: int
    allocates_here: bool

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Host memory for a slot: uint8, at least `nbytes`. Called from worker threads, unless `allocates_here`."""
        ...

    def send(self, batch: HostBatch, slot: Slot, *, blocking: bool = False) -> Flight:
        """Issue the copy of a batch; does not wait for it, unless `blocking`."""
        ...

    def receive(self, flight: Flight) -> tuple[Any, Any]:
        """(images, targets) in the structure of the samples, usable at once by the caller's work on the device."""
        ...

    def finished(self, flight: Flight) -> bool:
        """Whether the slot may be written again. Never waits, never touches the device's queue."""
        ...

    def close(self) -> None:
        """End what the engine started. No copy is under way any more."""
        ...
