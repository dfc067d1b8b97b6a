"""Reusable host memory: the host buffers of a loader, and recycled memory for batches that stay on the CPU."""

import enum
import mmap
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["PAGE_BYTES", "BufferState", "HostBuffer", "Recycler", "page_aligned"]

# The page size of Apple Silicon. Two host buffers never share a page, so the GPU can map each of them separately.
PAGE_BYTES = 16384
# Number of bytes from which on NumPy requests huge pages from Linux for an array.
_HUGE_PAGE_BYTES = 4 << 20
# The result of sys.getrefcount for an object that only a list refers to, which differs between versions of Python.
_REFERENCES_OF_IDLE = next(map(sys.getrefcount, [object()]))


class BufferState(enum.Enum):
    """States of a host buffer, in order: FREE, FILLING, READY, IN_FLIGHT, and FREE again.

    After a failure the state is QUARANTINED, and the buffer is never used again.
    """

    FREE = "free"
    FILLING = "filling"
    READY = "ready"
    IN_FLIGHT = "in flight"
    QUARANTINED = "quarantined"


class HostBuffer:
    """Host memory that holds one batch at a time. Guarded by the lock of the worker threads.

    Args:
        number: number of the buffer, for messages.
        allocate: function from bytes to uint8 host memory of at least that size.

    Attributes:
        state: state of the buffer.
        nbytes: size in bytes of the batch in the buffer; 0 while FREE.
    """

    def __init__(self, number: int, allocate: Callable[[int], torch.Tensor]):
        self.number = number
        self.state = BufferState.FREE
        self.nbytes = 0
        self._allocate = allocate
        self._memory: torch.Tensor | None = None

    def memory(self, nbytes: int) -> torch.Tensor:
        """Return uint8 memory of at least `nbytes`, allocated anew if the buffer is too small. Only while FILLING."""
        if self._memory is None or self._memory.numel() < nbytes:
            self._memory = None  # freed before allocating, because both together may not fit into memory
            self._memory = self._allocate(nbytes)
        return self._memory

    @property
    def capacity(self) -> int:
        """Number of allocated bytes, whether they hold a batch or not."""
        return 0 if self._memory is None else self._memory.numel()

    def detach(self) -> None:
        """Drop the memory, so that the next batch gets other memory."""
        self._memory = None

    def __repr__(self) -> str:
        return f"host buffer {self.number}: {self.state.value}, {self.nbytes / 1e6:.1f} MB"


def page_aligned(nbytes: int) -> torch.Tensor:
    """Return uint8 memory that torch owns, which starts at a page boundary and fills whole pages.

    torch must own the memory: torch 2.13 to 2.14 free a copied source on Metal's completion thread, where freeing
    memory that Python owns needs the GIL and can deadlock (docs/transfer.md).
    """
    rounded = nbytes + -nbytes % PAGE_BYTES
    memory = torch.empty(rounded + PAGE_BYTES, dtype=torch.uint8)
    start = -memory.data_ptr() % PAGE_BYTES
    return memory[start : start + rounded]


class Recycler:
    """Memory for tensors that are delivered on the CPU, which is reused once nothing refers to the tensors any more.

    New memory causes page faults, which take 0.2 ms for a 224x224 image, longer than its conversion to float32. torch
    keeps a reference to the NumPy array of a tensor for as long as any tensor shares the storage, so the reference
    count of the array shows whether it is idle. (A finalizer would run earlier, but a KeyboardInterrupt that is raised
    in a finalizer is lost.)

    On a free-threaded build of Python, the count may be too high for a while, because a reference that another thread
    dropped is subtracted only when the thread that owns the array runs next. It is never too low. So memory may be
    allocated although an idle array exists, but memory in use is never given out twice.

    All methods may be called from any thread, because a thread removes an array from the queue before it examines the
    array. There is no lock that a fork could leave locked.

    Args:
        keep: half of the number of arrays that are kept.
    """

    def __init__(self, *, keep: int):
        self._keep = keep
        self._arrays: deque[Any] = deque(maxlen=2 * keep)  # arrays that tensors use, and idle ones

    def empty_copy(self) -> "Recycler":
        """Return an empty recycler with the same limit."""
        return Recycler(keep=self._keep)

    def lease(self, nbytes: int) -> torch.Tensor:
        """Return uint8 memory of at least `nbytes`. It is not given out again while a tensor shares it."""
        array = self._idle_array(nbytes)
        if array is None:
            array = _new_array(nbytes)
        self._arrays.append(array)
        return torch.from_numpy(array)

    def clear(self) -> None:
        """Free idle memory."""
        self._arrays.clear()

    def _idle_array(self, nbytes: int) -> Any:
        for _ in range(len(self._arrays)):
            try:
                taken = [self._arrays.popleft()]
            except IndexError:  # other threads took the remaining arrays
                break
            if next(map(sys.getrefcount, taken)) > _REFERENCES_OF_IDLE:
                self._arrays.append(taken[0])
            elif taken[0].nbytes >= nbytes:
                return taken[0]
            # an idle array that is too small is dropped
        return None


def _new_array(nbytes: int) -> Any:
    """Return a uint8 array in small pages, because huge pages delay the first batch by 25 ms and gain 1 % later."""
    import numpy as np

    if nbytes < _HUGE_PAGE_BYTES:
        return np.empty(nbytes, np.uint8)
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
