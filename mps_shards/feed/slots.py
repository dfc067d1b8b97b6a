"""The loader's reusable host buffers, and what state each is in."""

import enum
import mmap
import weakref
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["PAGE", "Recycler", "Slot", "State", "page_aligned"]

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

    A fresh buffer costs page faults: 0.2 ms for the row of a 224x224 image, more than its conversion. So each lease is
    a NumPy view with a weak reference on it: torch holds the view for as long as any tensor shares its storage, and
    when it goes, the memory comes back.
    """

    def __init__(self, *, keep: int):
        self._keep = keep
        self._idle: list[Any] = []

    def lease(self, nbytes: int) -> torch.Tensor:
        """uint8 memory of at least `nbytes`; nobody else writes to it while a tensor shares it."""
        owner = None
        while self._idle and owner is None:
            found = self._idle.pop()
            owner = found if found.nbytes >= nbytes else None
        if owner is None:
            owner = _empty(nbytes)
        view = owner[:]
        weakref.finalize(view, self._take_back, owner).atexit = False
        return torch.from_numpy(view)

    def clear(self) -> None:
        """Let go of what is idle."""
        self._idle.clear()

    def _take_back(self, owner: Any) -> None:
        if len(self._idle) < self._keep:  # list operations are atomic; this may run in any thread
            self._idle.append(owner)
