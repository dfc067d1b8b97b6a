"""Slots that lie in MPS memory, which workers fill through its host alias: only the conversion runs on the device.

Opt-in (``transfer="alias"``), torch 2.13 and later: the alias is a private function of torch, and its documentation
asks for `torch.mps.synchronize` around host writes. Instead, a slot is written only after the event behind its last
conversion, and read only by work that is issued after the writes.
"""

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Slot
from mps_shards.device.engines import Flight
from mps_shards.device.engines.inline import InlineEngine, converted
from mps_shards.device.engines.torch_device import Device
from mps_shards.errors import ConfigError

__all__ = ["AliasEngine"]


class AliasEngine(InlineEngine):
    """No copy where pixels are uint8; what needs no conversion is copied on the device, so that it is the user's."""

    name = "alias"
    allocates_here = True

    def __init__(self, device: Device, *, ahead: int, host_conversion: bool = False):
        super().__init__(device, ahead=ahead, non_blocking=True, host_conversion=host_conversion)
        self._there: dict[int, torch.Tensor] = {}  # device memory by the address of its host alias

    def allocate(self, nbytes: int) -> torch.Tensor:
        """The host's view of device memory. Touches the device."""
        there, here = self._device.shared_memory(nbytes)
        self._there[here.data_ptr()] = there
        return here

    def send(self, batch: HostBatch, slot: Slot, *, blocking: bool = False) -> Flight:
        """Issue the conversions, reading from the slot."""
        flight = Flight(batch, slot)
        here = slot.memory(0)
        there = self._there.get(here.data_ptr())
        if there is None:
            raise ConfigError("this slot's memory is not the device's; use transfer='inline'")
        views = []
        for leaf in batch.leaves:
            start = leaf.data_ptr() - here.data_ptr()
            view = there[start : start + leaf.numel() * leaf.itemsize].view(leaf.dtype).view(leaf.shape)
            views.append(view if leaf.dtype == torch.uint8 else self._device.clone(view))
        flight.there = converted(self._device, batch, views)
        flight.event = self._device.record()
        return flight

    def close(self) -> None:
        """Let go of the device memory."""
        self._there.clear()
