"""Accounts of the samples that DataLoader workers skip, in memory that the main process reads."""

import ctypes
import multiprocessing.context
from typing import Any

from mps_shards.metrics import Skip, SkipReport
from mps_shards.sampling.worker_memory import WorkerMemory

__all__ = ["WorkerSkips"]

_ITERATIONS = 4  # most iterations that may run at the same time, each by a DataLoader over the same data set
_WORKERS = 128  # most workers that are counted; the samples that further workers skip are only logged
_TEXT = 160  # most bytes of a text that are kept


class _Slot(ctypes.Structure):
    """Account of one worker in one iteration. Only that worker writes it, so no lock is needed.

    Attributes:
        iteration: number of the iteration.
        count: number of skipped samples.
        position, has_key, key, shard, reason: the first skipped sample, see `Skip`.
    """

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
    """The number of samples that each DataLoader worker of an iteration skipped, and the first of them."""

    def __init__(self) -> None:
        self._shared = WorkerMemory(_Memory)

    def record(self, iteration: int, worker: int, count: int, first: Skip | None) -> None:
        """Record how many samples a worker has skipped so far. Only that worker calls this method.

        Args:
            iteration: number of the iteration.
            worker: number of the worker.
            count: number of samples skipped so far in this iteration.
            first: the first skipped sample, if `count` is 1; otherwise None.
        """
        if worker >= _WORKERS:
            return
        slot = self._slot(iteration, worker)
        if first is not None:
            slot.position = -1 if first.position is None else first.position
            slot.has_key = first.key is not None
            slot.key, slot.shard, slot.reason = map(_shortened, (first.key or "", first.shard, first.reason))
        slot.count, slot.iteration = count, iteration

    def report(self, iteration: int) -> SkipReport:
        """Return the samples that all workers of an iteration skipped so far: their number, and the first of each."""
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
        # a DataLoader worker that is spawned shares the memory; any other copy gets new memory
        return {"shared": self._shared} if multiprocessing.context.get_spawning_popen() is not None else {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = state["shared"] if "shared" in state else WorkerMemory(_Memory)


def _shortened(text: str) -> bytes:
    content = text.replace("\0", "?").encode(errors="replace")
    if len(content) <= _TEXT:
        return content
    return content[: _TEXT - 3].decode(errors="ignore").encode() + "…".encode()
