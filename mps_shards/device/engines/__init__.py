"""Transfer engines, which copy a batch from a host buffer to a device. One file for each, behind one contract."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mps_shards.batching.host_batch import HostBatch

__all__ = ["Engine", "Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """A batch that is being copied to the device, or has arrived.

    Attributes:
        batch: the batch that is sent. Its buffer must not be written or freed before `Engine.finished`. The batch
            keeps the host tensors, so that the source of a copy lives as long as this flight.
        device_tensors: one tensor for each leaf of a sample, until the batch is received.
        event: event that is recorded on the device after the copy; None if the copy was not issued yet, or needs none.
        failure: an error of another thread, kept until the batch is received and raised then.
    """

    batch: HostBatch
    device_tensors: list[torch.Tensor] = field(default_factory=list)
    event: Any = None
    failure: BaseException | None = None
    sent_at: float = field(default_factory=time.perf_counter)


class Engine(Protocol):
    """Moves batches to one device. Called from the consumer's thread, except for `allocate`.

    Attributes:
        name: name of the engine for `DeviceLoader(transfer=...)`.
        pixels: dtype of pixels in host buffers: float32 if workers convert them, uint8 if the device does.
        ahead: number of batches to issue before the oldest batch is returned.
    """

    name: str
    pixels: torch.dtype
    ahead: int

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return memory for a host buffer: uint8, at least `nbytes`. Called from worker threads."""
        ...

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copy of a batch. Does not wait for the copy, unless `blocking`."""
        ...

    def receive(self, flight: Flight) -> Any:
        """Return the user's batch, such as (images, targets). The caller may use the tensors on the device at once."""
        ...

    def finished(self, flight: Flight) -> bool:
        """Whether the host buffer may be written again. Never waits, and adds nothing to the device's queue."""
        ...

    def close(self) -> None:
        """End the threads of the engine. Called when no copy is in flight."""
        ...
