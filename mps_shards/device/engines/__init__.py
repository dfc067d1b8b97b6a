"""Transfer engines, which copy batches from host buffers to a device: one file for each, and their contract."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mps_shards.batching.host_batch import HostBatch

__all__ = ["Engine", "Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """A batch that is being copied to the device, or has arrived there.

    Attributes:
        batch: the batch. Its host buffer must not be written or freed before `Engine.finished`. The batch refers to the
            host tensors, so that the source of a copy lives as long as this object.
        device_tensors: one tensor on the device for each leaf of a sample, until the batch is received.
        event: event that is recorded on the device after the copy; None before the copy is issued, or if it needs none.
        failure: error of another thread, which is raised when the batch is received.
        sent_at: time at which the batch was sent, by `time.perf_counter`.
    """

    batch: HostBatch
    device_tensors: list[torch.Tensor] = field(default_factory=list)
    event: Any = None
    failure: BaseException | None = None
    sent_at: float = field(default_factory=time.perf_counter)


class Engine(Protocol):
    """Moves batches to one device. All methods except `allocate` are called from the consumer's thread.

    Attributes:
        name: name of the engine for `DeviceLoader(transfer=...)`.
        pixels: dtype of pixels in host buffers: float32 if workers convert them, uint8 if the device does.
        device_batches: number of batches to send to the device before the oldest one is delivered.
    """

    name: str
    pixels: torch.dtype
    device_batches: int

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return uint8 memory of at least `nbytes` for a host buffer. Worker threads call this method."""
        ...

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Issue the copy of a batch. Waits until the copy is finished only if `blocking` is set."""
        ...

    def receive(self, flight: Flight) -> Any:
        """Return the batch as the user gets it, such as (images, targets). Its tensors may be used at once."""
        ...

    def finished(self, flight: Flight) -> bool:
        """Whether the host buffer may be written again. Does not wait, and adds nothing to the device's queue."""
        ...

    def close(self) -> None:
        """End the threads of the engine. All copies must have finished."""
        ...
