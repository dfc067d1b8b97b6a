"""The CPU: workers wrote float32 into the slot, and the batch is delivered as it lies there, without another copy."""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Recycler, Slot
from mps_shards.device.engines import Flight

__all__ = ["CpuEngine"]


class CpuEngine:
    """Gives the slot's memory to the user outright; it is used again once no tensor shares it any more."""

    name = "cpu"
    pixels = torch.float32
    ahead = 0
    allocates_here = False

    def __init__(self, memory: Recycler):
        self._memory = memory

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Memory that was given back, or fresh."""
        return self._memory.lease(nbytes)

    def send(self, batch: HostBatch, slot: Slot, *, blocking: bool = False) -> Flight:
        """Take the memory out of the slot: the next batch gets other memory."""
        slot.detach()
        return Flight(batch, slot)

    def receive(self, flight: Flight) -> tuple[Any, Any]:
        """Hand the memory over."""
        leaves, flight.batch.leaves = flight.batch.leaves, []
        return flight.batch.rebuilt(leaves)

    def finished(self, flight: Flight) -> bool:
        """At once: the slot has let go of the memory."""
        return True

    def close(self) -> None:
        """Nothing was started."""
