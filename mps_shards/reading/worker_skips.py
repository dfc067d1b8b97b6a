"""What DataLoader workers skipped, in memory that their main process reads."""

import ctypes
import multiprocessing.context
from typing import Any

from mps_shards.metrics import Skip, SkipReport
from mps_shards.sampling.worker_memory import WorkerMemory

__all__ = ["WorkerSkips"]

_ITERATIONS = 4  # at a time, of as many DataLoaders over one data set
_WORKERS = 128  # more than any machine has use for; what further ones skip is in the log alone
_TEXT = 160  # bytes of each text that are kept


class _Slot(ctypes.Structure):
    """What one worker skipped in one iteration. Only that worker writes it, so no lock is needed."""

    iteration: int
    count: int
    position: int
    has_key: int
    key: bytes
    shard: bytes
    reason: bytes
    _fields_ = [
        ("iteration", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("position", ctypes.c_int64),
        ("has_key", ctypes.c_uint64),
        ("key", ctypes.c_char * _TEXT),
        ("shard", ctypes.c_char * _TEXT),
        ("reason", ctypes.c_char * _TEXT),
    ]


class _Memory(ctypes.Structure):
    slots: Any
    _fields_ = [("slots", _Slot * (_ITERATIONS * _WORKERS))]


class WorkerSkips:
    """How many samples each worker of an iteration skipped, and the first of them."""

    def __init__(self) -> None:
        self._shared = WorkerMemory(_Memory)

    def record(self, iteration: int, worker: int, count: int, first: Skip | None) -> None:
        """Write down, in a worker, what it has skipped so far in an iteration; `first` with the count of 1."""
        if worker >= _WORKERS:
            return
        slot = self._slot(iteration, worker)
        if first is not None:
            slot.position = -1 if first.position is None else first.position
            slot.has_key = first.key is not None
            slot.key, slot.shard, slot.reason = map(_shortened, (first.key or "", first.shard, first.reason))
        slot.count, slot.iteration = count, iteration

    def report(self, iteration: int) -> SkipReport:
        """What all workers of an iteration skipped so far, with the first sample of each worker."""
        slots = [self._slot(iteration, worker) for worker in range(_WORKERS)]
        skipping = [slot for slot in slots if slot.iteration == iteration and slot.count]
        first = [
            Skip(
                key=slot.key.decode(errors="replace") if slot.has_key else None,
                shard=slot.shard.decode(errors="replace"),
                position=None if slot.position < 0 else slot.position,
                reason=slot.reason.decode(errors="replace"),
            )
            for slot in skipping
        ]
        return SkipReport(sum(slot.count for slot in skipping), tuple(first))

    def _slot(self, iteration: int, worker: int) -> _Slot:
        slot: _Slot = self._shared.content().slots[iteration % _ITERATIONS * _WORKERS + worker]
        return slot

    def __getstate__(self) -> dict[str, Any]:
        # a copy that is no worker's has an account of its own
        return {"shared": self._shared} if multiprocessing.context.get_spawning_popen() is not None else {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = state["shared"] if "shared" in state else WorkerMemory(_Memory)


def _shortened(text: str) -> bytes:
    content = text.replace("\0", "?").encode(errors="replace")
    if len(content) <= _TEXT:
        return content
    return content[: _TEXT - 3].decode(errors="ignore").encode() + "…".encode()
