"""Epoch and start position of the next iteration, in memory that is shared with DataLoader workers.

DataLoader workers hold copies of a data set, and persistent workers outlive an epoch. Without shared memory they would
miss calls of `set_epoch`, and each new worker would begin again with epoch 0 or with a resumed position.

After an iteration that delivered a batch or reached its end, the next iteration reads the next epoch. It does not
matter how the earlier iteration ended (exhausted, `break`, an exception), or whether it still runs. An iteration that
delivered nothing is repeated. `move` takes precedence. All workers of one DataLoader iteration read the same epoch.
"""

import ctypes
import re
from multiprocessing.process import current_process
from typing import Any, NamedTuple

from mps_shards.sampling.rank import DataLoaderWorker
from mps_shards.sampling.worker_memory import WorkerMemory

__all__ = ["Begun", "Progress"]

_REMEMBERED = 16  # number of latest iterations on record; a worker that joins an older one would start a new iteration


class _Iteration(ctypes.Structure):
    """Record of an iteration that has begun.

    Attributes:
        epoch: epoch that the iteration reads.
        start: position at which the iteration started.
        number: number of the iteration, from 1; 0 for an unused record.
        moves: number of calls of `move` before the iteration began.
        delivered: whether the iteration has delivered a batch, or has reached its end.
        num_workers: number of DataLoader workers that make its batches; 0 for the main process.
        base_seed, turn, first_process: fields of the `_Turn` that identifies the iteration for its workers.
    """

    epoch: int
    start: int
    number: int
    moves: int
    delivered: int
    num_workers: int
    base_seed: int
    turn: int
    first_process: int
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "epoch",
            "start",
            "moves",
            "delivered",
            "num_workers",
            "base_seed",
            "turn",
            "first_process",
            "number",
        )
    ]


class _Memory(ctypes.Structure):
    """Memory that a process shares with its DataLoader workers.

    Attributes:
        epoch, start: arguments of the last call of `move`.
        moves: number of calls of `move`.
        latest: number of the latest iteration; 0 before the first one.
        iterations: records of the latest iterations; that of iteration n is at n modulo their number.
    """

    epoch: int
    start: int
    moves: int
    latest: int
    iterations: Any
    _fields_ = [
        ("epoch", ctypes.c_uint64),
        ("start", ctypes.c_uint64),
        ("moves", ctypes.c_uint64),
        ("latest", ctypes.c_uint64),
        ("iterations", _Iteration * _REMEMBERED),
    ]


class _Turn(NamedTuple):
    """Identifies an iteration of a DataLoader for its workers; equal for all workers of that iteration.

    The base seed alone would suffice, with two exceptions. Persistent workers keep their seed, so they count their
    iterations. Programs may seed torch before each epoch, so that the numbers of the processes must distinguish
    iterations.

    Attributes:
        num_workers: number of workers of the DataLoader.
        base_seed: see `DataLoaderWorker`.
        turn: number of the iteration among those with this base seed, from 1.
        first_process: number that multiprocessing gave to the first worker's process; 0 if it is not known.
    """

    num_workers: int
    base_seed: int
    turn: int
    first_process: int

    def is_of(self, iteration: _Iteration) -> bool:
        """Whether this turn belongs to the iteration."""
        return (
            (iteration.num_workers, iteration.base_seed, iteration.turn) == self[:3]
            # may differ a little, because another thread may have started a process between two workers
            and abs(iteration.first_process - self.first_process) < self.num_workers
        )


class Begun(NamedTuple):
    """An iteration that has begun, or would begin now: its number, its epoch and its start position."""

    number: int
    epoch: int
    start: int


class Progress:
    """Epoch and start position of the next iteration.

    The process that created this object shares it with its DataLoader workers, and with no other process; see
    `WorkerMemory`.

    Args:
        epoch: epoch of the first iteration.
    """

    def __init__(self, epoch: int):
        self._turns: dict[int, tuple[int, int]] = {}  # by worker: its base seed, and its number of iterations with it
        self._shared = WorkerMemory(_Memory)
        self._memory().epoch = epoch

    def move(self, epoch: int, start: int) -> None:
        """Set the epoch and the start position of the next iteration, also for DataLoader workers."""
        memory = self._memory()
        memory.epoch, memory.start = epoch, start
        memory.moves += 1

    def upcoming(self, worker: DataLoaderWorker | None = None) -> Begun:
        """Return the iteration that would begin now in the main process, or in a DataLoader worker if one is given."""
        memory = self._memory()
        if worker is not None:
            turn = self._turn(worker)
            for iteration in memory.iterations:
                if iteration.number and turn.is_of(iteration):
                    return Begun(iteration.number, iteration.epoch, iteration.start)
        last = self._last()
        if last is None:
            return Begun(memory.latest + 1, memory.epoch, memory.start)
        if not last.delivered:
            return Begun(memory.latest + 1, last.epoch, last.start)
        return Begun(memory.latest + 1, last.epoch + 1, 0)

    def begin(self, worker: DataLoaderWorker | None = None, *, epoch: int | None = None) -> Begun:
        """Begin an iteration, or join the one that another worker of the same DataLoader has begun.

        Workers that begin at the same time write the same values, so no lock is needed. A killed worker would hold a
        lock for ever.

        Args:
            worker: the DataLoader worker in which the iteration begins; None in the main process.
            epoch: epoch that a state of this worker alone names; it replaces the next epoch.
        """
        begun = self.upcoming(worker)
        memory = self._memory()
        if begun.number > memory.latest:
            if epoch is not None:
                begun = begun._replace(epoch=epoch)
            record = memory.iterations[begun.number % _REMEMBERED]
            record.number = 0
            record.epoch, record.start, record.moves, record.delivered = begun.epoch, begun.start, memory.moves, 0
            turn = _Turn(0, 0, 0, 0) if worker is None else self._turn(worker)
            record.num_workers, record.base_seed, record.turn, record.first_process = turn
            record.number = memory.latest = begun.number
        if worker is not None:
            self._turns[worker.number] = (worker.base_seed, self._turn(worker).turn)
        return begun

    def delivered(self, number: int) -> None:
        """Record that an iteration delivered a batch or reached its end, so that the next one reads the next epoch."""
        record = self._memory().iterations[number % _REMEMBERED]
        if record.number == number:
            record.delivered = 1

    def current(self) -> Begun:
        """Return the last iteration that began after the last `move`; if none did, the iteration that is next."""
        last = self._last()
        return self.upcoming() if last is None else Begun(last.number, last.epoch, last.start)

    def in_workers(self) -> bool:
        """Whether DataLoader workers make the batches of `current`."""
        last = self._last()
        return last is not None and last.num_workers > 0

    def latest_in_workers(self) -> int | None:
        """Return the number of the last iteration, if DataLoader workers make its batches; otherwise None."""
        memory = self._memory()
        last: _Iteration = memory.iterations[memory.latest % _REMEMBERED]
        return last.number if last.number and last.num_workers else None

    def _last(self) -> _Iteration | None:
        memory = self._memory()
        last: _Iteration = memory.iterations[memory.latest % _REMEMBERED]
        return last if last.number and last.moves == memory.moves else None

    def _turn(self, worker: DataLoaderWorker) -> _Turn:
        """Return the turn of the iteration that this worker would begin now."""
        base_seed, turns = self._turns.get(worker.number, (worker.base_seed, 0))
        number = re.search(r"\d+$", current_process().name)  # multiprocessing counts the processes that it starts
        first_process = max(0, int(number[0]) - worker.number) if number else 0
        return _Turn(worker.total, worker.base_seed, turns + 1 if base_seed == worker.base_seed else 1, first_process)

    def _memory(self) -> Any:
        return self._shared.content()

    def __getstate__(self) -> dict[str, Any]:
        return {"_shared": self._shared, "_turns": {}}
