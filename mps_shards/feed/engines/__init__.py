"""Engines: how a batch gets from a slot to a device. One file each, behind one small contract."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mps_shards.feed.batch import HostBatch
from mps_shards.feed.slots import Slot

__all__ = ["Engine", "Flight"]


@dataclass(slots=True, eq=False)
class Flight:
    """A copy on its way, or finished.

    Attributes:
        slot: its source, which must not be written or freed before `Engine.finished`.
        event: recorded behind the copy on the device; None where the copy was finished when `send` returned.
        sources: keeps the host tensors alive as long as this flight.
    """

    slot: Slot
    event: Any = None
    sources: list[torch.Tensor] = field(default_factory=list)


class Engine(Protocol):
    """Moves batches to one device. Every method is called from the consumer's thread, but `allocate`.

    Attributes:
        name: as `transfer=` takes it.
        pixels: dtype of pixels in the slots: float32 where workers convert them, uint8 where the device does.
        ahead: batches to issue before the oldest is returned.
    """

    name: str
    pixels: torch.dtype
    ahead: int

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Host memory for a slot: uint8, at least `nbytes`. Called from worker threads."""
        ...

    def send(self, batch: HostBatch, slot: Slot) -> tuple[tuple[Any, Any], Flight]:
        """Issue the copy and the conversion of a batch; does not wait for them.

        Returns:
            (images, targets) in the structure of the samples, usable at once by work on the same device; and the copy.
        """
        ...

    def finished(self, flight: Flight) -> bool:
        """Whether the slot may be written again. Never waits, never touches the device's queue."""
        ...
