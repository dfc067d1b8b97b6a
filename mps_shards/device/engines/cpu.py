"""The engine for the CPU: workers write float32 into host buffers, whose memory is delivered without a copy."""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Recycler
from mps_shards.device.engines import Flight

__all__ = ["CpuEngine"]


class CpuEngine:
    """Gives the memory of host buffers to the user; the memory is reused once no tensor shares it any more."""

    name = "cpu"
    pixels = torch.float32
    ahead = 0

    def __init__(self, recycler: Recycler):
        self._recycler = recycler

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return recycled or fresh memory."""
        return self._recycler.lease(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Detach the memory from the host buffer, so that the next batch gets other memory."""
        assert batch.buffer is not None
        batch.buffer.detach()
        return Flight(batch)

    def receive(self, flight: Flight) -> Any:
        """Return the user's batch in the detached memory."""
        leaves, flight.batch.leaves = flight.batch.leaves, []
        return flight.batch.rebuilt(leaves)

    def finished(self, flight: Flight) -> bool:
        """Return True: the host buffer no longer holds the memory."""
        return True

    def close(self) -> None:
        """Do nothing: this engine starts no thread."""
