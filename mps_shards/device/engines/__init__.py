"""Transfer engines: how a batch gets from a host buffer to a device. One file each, behind one small contract."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mps_shards.batching.host_batch import HostBatch

__all__ = ["Engine", "Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """A batch on its way to the device, or arrived.

    Attributes:
        batch: what is sent. Its buffer must not be written or freed before `Engine.finished`; it holds the host
            tensors, so that the source of a copy lives as long as this flight.
        device_tensors: one tensor for each leaf of a sample, until they are received.
        event: recorded on the device after the copy; None where the copy was not issued yet, or needs no event.
        failure: an error of another thread, until it is raised where the batch is received.
    """

    batch: HostBatch
    device_tensors: list[torch.Tensor] = field(default_factory=list)
    event: Any = None
    failure: BaseException | None = None
    sent_at: float = field(default_factory=time.perf_counter)


class Engine(Protocol):
    """Moves batches to one device. Called from the consumer's thread, except for `allocate`.

    Attributes:
        name: as `DeviceLoader(transfer=...)` takes it.
        pixels: dtype of pixels in host buffers: float32 where workers convert them, uint8 where the device does.
        ahead: batches to issue before the oldest is returned.
    """

    name: str
    pixels: torch.dtype
    ahead: int

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Memory for a host buffer: uint8, at least `nbytes`. Called from worker threads."""
        ...

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copy of a batch. Does not wait for it, unless `blocking`."""
        ...

    def receive(self, flight: Flight) -> Any:
        """What users get, such as (images, targets). The caller's work on the device may use the tensors at once."""
        ...

    def finished(self, flight: Flight) -> bool:
        """Whether the host buffer may be written again. Never waits, and adds nothing to the device's queue."""
        ...

    def close(self) -> None:
        """End what the engine started. No copy is in flight any more."""
        ...
