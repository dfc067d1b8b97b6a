"""The loader's reusable host buffers, and what state each is in."""

import enum
import mmap
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["PAGE", "Recycler", "Slot", "State", "page_aligned"]

_REFERENCES = next(map(sys.getrefcount, [object()]))  # to what only a list holds
_LARGE = 4 << 20  # from here on NumPy asks Linux for huge pages
PAGE = 16384  # of Apple Silicon: two slots never share one, so the GPU may map each on its own


class State(enum.Enum):
    """FREE -> FILLING -> READY -> IN_FLIGHT -> FREE; an error on the way quarantines the slot for good."""

    FREE = "free"
    FILLING = "filling"
    READY = "ready"
    IN_FLIGHT = "in flight"
    QUARANTINED = "quarantined"


class Slot:
    """A host buffer that holds one batch at a time. Guarded by its owner's lock.

    Attributes:
        nbytes: what the batch in it takes; 0 while FREE.
    """

    def __init__(self, number: int, allocate: Callable[[int], torch.Tensor]):
        self.number = number
        self.state = State.FREE
        self.nbytes = 0
        self._allocate = allocate
        self._memory: torch.Tensor | None = None

    def memory(self, nbytes: int) -> torch.Tensor:
        """The buffer, grown if need be; only while FILLING."""
        if self._memory is None or self._memory.numel() < nbytes:
            self._memory = None  # first: both at once may be too much
            self._memory = self._allocate(nbytes)
        return self._memory

    @property
    def capacity(self) -> int:
        """Bytes of the buffer, in use or idle."""
        return 0 if self._memory is None else self._memory.numel()

    def holds(self, nbytes: int) -> bool:
        """Whether the buffer is large enough already."""
        return self._memory is not None and self._memory.numel() >= nbytes

    def detach(self) -> None:
        """Give the buffer away: the next batch gets another."""
        self._memory = None

    def __repr__(self) -> str:
        return f"slot {self.number}: {self.state.value}, {self.nbytes / 1e6:.1f} MB"


def page_aligned(nbytes: int) -> torch.Tensor:
    """uint8 memory that torch owns, starting on a page of its own and filling whole pages.

    Owned by torch, since torch 2.13 to 2.14 free a copied source on Metal's completion thread, where memory owned by
    Python needs the GIL and can dead-lock (TRANSFER.md, 4).
    """
    whole = nbytes + -nbytes % PAGE
    memory = torch.empty(whole + PAGE, dtype=torch.uint8)
    start = -memory.data_ptr() % PAGE
    return memory[start : start + whole]


def _empty(nbytes: int) -> Any:
    """uint8 array. In small pages: huge ones keep the first batch 25 ms longer, and gain 1 % later (measured)."""
    import numpy as np

    if nbytes < _LARGE:
        return np.empty(nbytes, np.uint8)
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)


class Recycler:
    """Memory for tensors that are given away on the CPU, used again once nobody holds them any more.

    A fresh buffer costs page faults: 0.2 ms for the row of a 224x224 image, more than its conversion. torch holds the
    NumPy array that a tensor was made from for as long as any tensor shares its storage, so the array's references say
    whether it is idle. (A finalizer would say it sooner, but a Ctrl-C that falls into one is lost.)

    For all threads: whoever looks at an array has taken it out first. No lock, which a fork could leave held.

    Args:
        keep: half of the arrays that it remembers.
    """

    def __init__(self, *, keep: int):
        self._given: deque[Any] = deque(maxlen=2 * keep)  # held by tensors or idle

    def lease(self, nbytes: int) -> torch.Tensor:
        """uint8 memory of at least `nbytes`; nobody else writes to it while a tensor shares it."""
        array = self._idle(nbytes)
        if array is None:
            array = _empty(nbytes)
        self._given.append(array)
        return torch.from_numpy(array)

    def clear(self) -> None:
        """Let go of what is idle."""
        self._given.clear()

    def _idle(self, nbytes: int) -> Any:
        for _ in range(len(self._given)):
            try:
                found = [self._given.popleft()]
            except IndexError:  # other threads were faster
                break
            if next(map(sys.getrefcount, found)) > _REFERENCES:
                self._given.append(found[0])
            elif found[0].nbytes >= nbytes:
                return found[0]
            # else too small, and only in the way
        return None
