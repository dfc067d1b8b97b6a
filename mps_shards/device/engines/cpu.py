"""The CPU: workers wrote float32 into the host buffer, and its memory is delivered without another copy."""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Recycler
from mps_shards.device.engines import Flight

__all__ = ["CpuEngine"]


class CpuEngine:
    """Gives the memory of host buffers to the user; it is used again once no tensor shares it any more."""

    name = "cpu"
    pixels = torch.float32
    ahead = 0

    def __init__(self, recycler: Recycler):
        self._recycler = recycler

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Memory that users dropped, or fresh memory."""
        return self._recycler.lease(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Take the memory out of the host buffer: the next batch gets other memory."""
        assert batch.buffer is not None
        batch.buffer.detach()
        return Flight(batch)

    def receive(self, flight: Flight) -> Any:
        """Hand the memory over."""
        leaves, flight.batch.leaves = flight.batch.leaves, []
        return flight.batch.rebuilt(leaves)

    def finished(self, flight: Flight) -> bool:
        """Always: the buffer has let go of the memory."""
        return True

    def close(self) -> None:
        """Nothing was started."""
