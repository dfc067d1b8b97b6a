"""The contract of a device for transfer engines, and its implementation by torch. Tests also use a simulated device."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from mps_shards.batching.host_buffers import page_aligned

__all__ = ["Device", "Event", "TorchDevice"]


class Event(Protocol):
    """A mark in the queue of a device."""

    def query(self) -> bool:
        """Whether the device has reached the mark. Does not wait."""
        ...


class Device(Protocol):
    """A device that executes work asynchronously, in the order in which the work is issued.

    Attributes:
        kind: torch's name for this kind of device: mps, cuda, cpu.
    """

    kind: str

    def host_memory(self, nbytes: int) -> torch.Tensor:
        """Return the host memory that is fastest to copy from: uint8, owned by torch, beginning at a page boundary."""
        ...

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """Return a new tensor on the device with the values and the dtype of `source`."""
        ...

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return a new float32 tensor on the device, exactly ``pixels / 255``, for uint8 pixels on the device."""
        ...

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        """Return a new int64 tensor on the device, for a uint8 tensor on the device."""
        ...

    def normalize(self, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Compute ``(images - mean) / std`` in place. `mean` and `std` are on the host, and the same in every call."""
        ...

    def read_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the host, in the same dtype. Waits for the device."""
        ...

    def record(self) -> Event:
        """Return an event that marks this point of the queue."""
        ...

    def side(self) -> AbstractContextManager[Any]:
        """Return a context in which work goes to a side queue, if the device has one."""
        ...

    def follow(self, event: Event, tensors: list[torch.Tensor]) -> None:
        """Let the caller's later work wait for an event of the side queue, and keep `tensors` alive for that work."""
        ...


class TorchDevice:
    """MPS, CUDA, or the CPU as a device whose copies block. `Device` describes the methods."""

    def __init__(self, device: torch.device):
        self.device = device
        self.kind = device.type
        # a tensor, because CUDA divides by a Python number through its reciprocal, which is not exact
        self._divisor = torch.tensor(255.0, device=device)
        self._side: Any = None
        self._normal: tuple[torch.Tensor, torch.Tensor] | None = None

    def host_memory(self, nbytes: int) -> torch.Tensor:
        """Return page-aligned memory, pinned on CUDA so that copies are asynchronous; on MPS, pinning does not help.

        See pytorch#181720 about MPS.
        """
        memory = page_aligned(nbytes)
        return memory.pin_memory() if self.kind == "cuda" else memory

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        """Return a copy on the device. The dtype is kept, because a converting copy would send four times the bytes."""
        return source.to(self.device, non_blocking=non_blocking, copy=True)

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.to(torch.float32).div_(self._divisor)

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.to(torch.int64)

    def normalize(self, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Normalise in place. `mean` and `std` are sent only once, because a copy that blocks would drain the queue."""
        if self._normal is None:
            self._normal = mean.to(self.device), std.to(self.device)
        images.sub_(self._normal[0]).div_(self._normal[1])

    def read_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the host in its dtype, because MPS may convert it wrongly (pytorch#189563, #197715)."""
        return tensor.cpu()

    def record(self) -> Event:
        """Return an event that has been recorded, because torch treats an event that was never recorded as reached."""
        if self.kind == "cpu":
            return _Passed()
        event: Any = torch.mps.Event() if self.kind == "mps" else torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event  # type: ignore[no-any-return]  # torch's events have no types

    def side(self) -> AbstractContextManager[Any]:
        """Return the context of a side stream on CUDA; MPS has only one queue, so its context does nothing."""
        if self.kind != "cuda":
            return contextlib.nullcontext()
        if self._side is None:
            self._side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        return torch.cuda.stream(self._side)

    def follow(self, event: Event, tensors: list[torch.Tensor]) -> None:
        """Let the current stream wait for the event, and keep the memory of `tensors` until that stream has read it."""
        if self.kind == "cuda":
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)  # type: ignore[arg-type]  # a CUDA event
            for tensor in tensors:
                tensor.record_stream(current)


class _Passed:
    def query(self) -> bool:
        return True
