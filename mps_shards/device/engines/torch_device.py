"""What transfer engines need of a device, so that they can also run on the simulated device of the tests."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from mps_shards.batching.host_buffers import page_aligned

__all__ = ["Device", "Event", "TorchDevice"]


class Event(Protocol):
    """A mark in a device's queue."""

    def query(self) -> bool:
        """Whether the device has passed it. Does not wait."""
        ...


class Device(Protocol):
    """A device whose work happens in the order in which it is issued, some time later.

    `kind` is torch's name for it: mps, cuda, cpu.
    """

    kind: str

    def host_memory(self, nbytes: int) -> torch.Tensor:
        """Host memory that copies to this device like best: uint8, owned by torch, starting on a page."""
        ...

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """A fresh tensor on the device with the values of `source`, of the same dtype."""
        ...

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """ToTensor: uint8 on the device -> a fresh float32, exactly x / 255."""
        ...

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        """uint8 on the device -> a fresh int64."""
        ...

    def normalize(self, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        """``(images - mean) / std``, in place. `mean` and `std` lie on the host, and are always the same two."""
        ...

    def read_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the host, in the same dtype. Waits."""
        ...

    def record(self) -> Event:
        """Mark this point of the queue."""
        ...

    def side(self) -> AbstractContextManager[Any]:
        """Work issued within goes to a queue of its own, where the device has such."""
        ...

    def follow(self, event: Event, tensors: list[torch.Tensor]) -> None:
        """Let the caller's work wait for an event of the side queue, and keep `tensors` for that work."""
        ...


class TorchDevice:
    """MPS, CUDA, or the CPU as a device whose copies block. Each method is as `Device` says."""

    def __init__(self, device: torch.device):
        self.device = device
        self.kind = device.type
        # by a tensor: CUDA divides by a Python number through its reciprocal, which is not exact
        self._divisor = torch.tensor(255.0, device=device)
        self._side: Any = None
        self._normal: tuple[torch.Tensor, torch.Tensor] | None = None

    def host_memory(self, nbytes: int) -> torch.Tensor:
        """Pinned for CUDA, where that makes a copy asynchronous; not for MPS, where it brings nothing (#181720)."""
        memory = page_aligned(nbytes)
        return memory.pin_memory() if self.kind == "cuda" else memory

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """Same dtype, dense: a converting copy would send four times the bytes."""
        return source.to(self.device, non_blocking=non_blocking, copy=True)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """One division."""
        return pixels.to(torch.float32).div_(self._divisor)

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        """One cast."""
        return labels.to(torch.int64)

    def normalize(self, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Two kernels; the numbers are sent once, since a copy that blocks would drain the queue."""
        if self._normal is None:
            self._normal = mean.to(self.device), std.to(self.device)
        images.sub_(self._normal[0]).div_(self._normal[1])

    def read_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """Plain ``.cpu()``: reading back into another dtype can be wrong on MPS (#189563, #197715)."""
        return tensor.cpu()

    def record(self) -> Event:
        """Return a recorded event; an event that was not recorded answers True."""
        if self.kind == "cpu":
            return _Passed()
        event: Any = torch.mps.Event() if self.kind == "mps" else torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event  # type: ignore[no-any-return]  # torch's events have no types

    def side(self) -> AbstractContextManager[Any]:
        """A stream on CUDA. MPS has one queue for the whole process, so there it is that."""
        if self.kind != "cuda":
            return contextlib.nullcontext()
        if self._side is None:
            self._side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._side)

    def follow(self, event: Event, tensors: list[torch.Tensor]) -> None:
        """Without this, memory of the side stream could be used again while the caller's kernels read it."""
        if self.kind == "cuda":
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)  # type: ignore[arg-type]  # it is one of CUDA
            for tensor in tensors:
                tensor.record_stream(current)


class _Passed:
    def query(self) -> bool:
        return True
