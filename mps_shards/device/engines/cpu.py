"""The engine for the CPU, which delivers the memory of host buffers without a copy."""

from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Recycler
from mps_shards.device.engines import Flight

__all__ = ["CpuEngine"]


class CpuEngine:
    """Delivers the memory of host buffers, into which workers write float32. See `Engine`.

    The memory is reused once no tensor shares it any more.

    Args:
        recycler: provides the memory, and reuses it.
    """

    name = "cpu"
    pixels = torch.float32
    device_batches = 0

    def __init__(self, recycler: Recycler):
        self._recycler = recycler

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return recycled memory if there is any, or otherwise new memory."""
        return self._recycler.lease(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Detach the memory from the host buffer, so that the next batch gets other memory."""
        assert batch.buffer is not None
        batch.buffer.detach()
        return Flight(batch)

    def receive(self, flight: Flight) -> Any:
        """Return the batch as the user gets it, in the memory that `send` detached."""
        leaves, flight.batch.leaves = flight.batch.leaves, []
        return flight.batch.rebuilt(leaves)

    def finished(self, flight: Flight) -> bool:
        """Return True, because the host buffer no longer holds the memory."""
        return True

    def close(self) -> None:
        """Do nothing, because this engine starts no thread."""
