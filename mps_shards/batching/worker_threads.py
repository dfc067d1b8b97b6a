"""Worker threads that make samples and write them into slots; batches come out in order, errors among them.

Each thread lives exactly as long as somebody can still take batches: until it is stopped, or the thread that takes
them is gone (as at the interpreter's end, which would otherwise wait for ever).
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sized
from typing import Any, NamedTuple

import torch

from mps_shards.batching.batch_source import BatchWork
from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.host_buffers import Slot, State
from mps_shards.batching.interrupts import Bell, uninterrupted
from mps_shards.errors import ShutdownTimeout
from mps_shards.metrics import LoaderStats, StageTimes

__all__ = ["Ready", "Workers"]

_PATIENCE_S = 60.0  # TRANSFER.md, 6
_GLANCE_S = 0.5  # how often an idle worker looks whether anybody is still there to take what it makes


class Ready(NamedTuple):
    """A finished batch in its slot, or the error that stands in its place."""

    batch: HostBatch | None
    slot: Slot | None
    plan: Any
    failure: BaseException | None


class _Open:
    """A batch that workers are filling."""

    __slots__ = ("batch", "failures", "handed_out", "left", "plan", "slot")

    def __init__(self, plan: Sized, batch: HostBatch | None, slot: Slot | None):
        self.plan, self.batch, self.slot = plan, batch, slot
        self.handed_out = 0
        self.left = len(plan)
        self.failures: list[tuple[int, BaseException]] = []


class Workers:
    """Threads that make the batches of an iteration, in their order, from `start` to `stop`.

    Args:
        iteration: what is to be made.
        slots: all that may be in use at once.
        pixels: dtype of pixels in memory, see `HostBatch`.
        threads: how many.
        max_bytes: of all slots in use; one batch alone may be larger.
        allocates_here: slots' memory comes from the thread that takes the batches.
    """

    def __init__(
        self,
        iteration: BatchWork[Any],
        *,
        slots: list[Slot],
        pixels: torch.dtype,
        threads: int,
        max_bytes: int | None,
        stats: LoaderStats,
        allocates_here: bool = False,
    ):
        self._iteration, self._plans, self._slots, self._pixels = iteration, iteration.plans(), slots, pixels
        self._max_bytes, self._allocates_here, self.stats = max_bytes, allocates_here, stats
        self._pulling = threading.Lock()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # workers wait for it
        self._bell = Bell()  # the consumer waits for it
        self._open: deque[_Open] = deque()  # oldest first; the last one may have items left to hand out
        self._newest: _Open | None = None  # guarded by _pulling; the only one with items left to hand out
        self._ended = self._closed = False
        self._requests: deque[tuple[Slot, int]] = deque()  # memory that only the consumer's thread may allocate
        self._idle = 0  # workers that look for something to do
        self._pid = os.getpid()
        self._taker = threading.current_thread()
        self._threads = [
            threading.Thread(target=self._work, name=f"mps-shards-worker-{number}") for number in range(threads)
        ]
        stats.workers = threads

    def start(self) -> None:
        """Start the threads: all, or none."""
        try:
            with uninterrupted(), _one_torch_thread_each(len(self._threads)) as self._started:
                for thread in self._threads:
                    thread.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let the threads end, and wait for that. Any number of times.

        Raises:
            ShutdownTimeout: a thread is busy for too long.
        """
        if self._pid != os.getpid():  # a fork's copy: the threads, and whoever held the locks, are not here
            return
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + _PATIENCE_S
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, until - time.monotonic()))
        busy = [thread.name for thread in started if thread.is_alive()]
        if busy:
            raise ShutdownTimeout(f"{', '.join(busy)} still busy {_PATIENCE_S:.0f} s after the end\n{self.describe()}")

    def take(self, *, wait_s: float | None) -> Ready | None:
        """The next batch in order, its slot READY; None at the end, or if it is not ready within `wait_s` (None: ever).

        Meanwhile serves workers whose slots need memory that only this thread may allocate.
        """
        began = time.perf_counter()
        until = None if wait_s is None else began + wait_s
        while True:
            with self._lock:
                self._taker = threading.current_thread()
                found = self._first_done()
                while found is None and self._requests:
                    self._allocate(*self._requests.popleft())
                over = found is None and self._ended and not self._open
            now = time.perf_counter()
            if found or over or (until is not None and until <= now):
                break
            self._bell.wait(None if until is None else until - now)
        if wait_s != 0:
            self.stats.starved_s += now - began
        return found

    def _first_done(self) -> Ready | None:
        if not (self._open and self._open[0].left == 0):
            return None
        done = self._open.popleft()
        failure = min(done.failures, key=lambda found: found[0])[1] if done.failures else None
        self._changed.notify_all()
        return Ready(done.batch, done.slot, done.plan, failure)

    @property
    def exhausted(self) -> bool:
        """Whether every batch was taken."""
        with self._lock:
            return self._ended and not self._open

    def mark(self, slot: Slot, state: State) -> None:
        """Change a slot's state; a FREE one is filled again."""
        with self._lock:
            slot.state = state
            if state is State.FREE:
                slot.nbytes = 0
                self._changed.notify_all()

    def levels(self) -> tuple[int, int, int]:
        """Batches being filled, ready, and in flight."""
        with self._lock:
            done = sum(opened.left == 0 for opened in self._open)
            flying = sum(slot.state is State.IN_FLIGHT for slot in self._slots)
            return len(self._open) - done, done, flying

    def describe(self) -> str:
        """Slots and queue, a line each, for messages."""
        filling, ready, flying = self.levels()
        lines = [f"{filling} batches being filled, {ready} ready, {flying} in flight", *map(repr, self._slots)]
        return "\n".join(lines)

    # Everything below runs in the worker threads.

    def _work(self) -> None:
        torch.get_num_threads()  # or else torch would do what it does first in a thread later: take the common setting
        torch.set_num_threads(1)
        self._started()
        times = StageTimes()
        try:
            make = self._iteration.sample_maker(times)
            while (unit := self._next_unit()) is not None:
                opened, first, last = unit
                failure, row = None, first
                try:
                    for row, made in enumerate(make(opened.plan, first, last), first):
                        self._put(opened, row, made, times)
                        row += 1
                except BaseException as error:  # it changes thread here, and is raised where the batch is taken
                    failure = (row, error)
                self._finish_unit(opened, last - first, failure, times)
        except BaseException as error:  # not a sample's: without this, whoever waits for a batch would wait for ever
            with self._lock:
                self._end(error)

    def _put(self, opened: _Open, row: int, made: Sample | None, times: StageTimes) -> None:
        assert opened.batch is not None
        if made is None:
            opened.batch.skip(row)
            return
        began = time.perf_counter()
        opened.batch.put(row, made)
        times.assemble += time.perf_counter() - began

    def _finish_unit(
        self, opened: _Open, size: int, failure: tuple[int, BaseException] | None, times: StageTimes
    ) -> None:
        with self._lock:
            if failure:
                opened.failures.append(failure)
            self.stats.add(times.take())
            last = opened.left == size
            if not last:
                opened.left -= size
                return
        skipped = 0
        if opened.batch is not None and not opened.failures:
            try:
                skipped = opened.batch.complete()
            except BaseException as error:
                opened.failures.append((0, error))
        with self._lock:
            self.stats.skipped += skipped
            opened.left = 0
            if opened.slot is not None:
                opened.slot.state = State.QUARANTINED if opened.failures else State.READY
            self._changed.notify_all()
            self._bell.ring()

    def _next_unit(self) -> tuple[_Open, int, int] | None:
        """Rows to make next, of the newest batch: (batch, first, last)."""
        with self._lock:
            self._idle += 1
        with self._pulling:  # whoever waits here would find nothing to do either
            newest = self._newest
            if newest is None or newest.handed_out == len(newest.plan):
                newest = self._newest = self._open_next()
            with self._lock:
                self._idle -= 1
            if newest is None:
                return None
            count = len(newest.plan)
            # a few samples at a time: one lock for several samples, yet all workers end a batch at about the same time
            unit = max(1, min(16, count // (2 * len(self._threads))))
            first, last = newest.handed_out, min(newest.handed_out + unit, count)
            newest.handed_out = last
            return newest, first, last

    def _open_next(self) -> _Open | None:
        slot = self._free_slot()
        if slot is None:
            return None
        failure: BaseException | None = None
        plan = None
        began = time.perf_counter()
        try:
            plan = next(self._plans, None)
        except BaseException as error:  # raised where the batch would have been taken, after those before it
            failure = error
        with self._lock:
            self.stats.read_s += time.perf_counter() - began  # foreign tars are read here
            if plan is None:
                slot.state = State.FREE
                self._end(failure)
                return None
            opened = _Open(plan, None, slot)
            opened.batch = self._iteration.new_batch(plan, lambda n: self._granted(opened, slot, n), self._pixels)
            self._open.append(opened)
            return opened

    def _end(self, failure: BaseException | None) -> None:
        """No batch comes after this one; a failure takes its place."""
        if failure is not None:
            broken = _Open((), None, None)
            broken.failures.append((0, failure))
            self._open.append(broken)
        self._ended = True
        self._changed.notify_all()
        self._bell.ring()

    def _free_slot(self) -> Slot | None:
        with self._lock:
            while not self._closed and not self._ended and self._taker.is_alive():
                for slot in self._slots:
                    if slot.state is State.FREE:
                        slot.state = State.FILLING
                        return slot
                began = time.perf_counter()
                self._changed.wait(_GLANCE_S)
                self.stats.blocked_s += (time.perf_counter() - began) * self._idle
            return None

    def _granted(self, opened: _Open, slot: Slot, nbytes: int) -> torch.Tensor:
        """A batch's memory, once it fits the budget.

        Granted in the order of the batches, so that no batch waits for memory that a later one holds.
        """
        with self._lock:
            while self._max_bytes is not None and not self._fits(opened, slot, nbytes):
                if self._closed or not self._taker.is_alive():
                    raise _Closed
                self._changed.wait(_GLANCE_S)
            slot.nbytes = nbytes
            self._changed.notify_all()
            if not self._allocates_here:
                return slot.memory(nbytes)
            self._requests.append((slot, nbytes))
            self._bell.ring()
            while not slot.holds(nbytes):
                if self._closed or not self._taker.is_alive():
                    raise _Closed
                self._changed.wait(_GLANCE_S)
            return slot.memory(nbytes)

    def _fits(self, opened: _Open, slot: Slot, nbytes: int) -> bool:
        for older in self._open:
            if older is opened:
                break
            if older.left and older.slot is not None and not older.slot.nbytes:
                return False
        limit = self._max_bytes or nbytes
        held = sum(max(other.nbytes, other.capacity) for other in self._slots if other.nbytes)
        # what larger batches left behind counts, too, and goes where it is in the way; but a device's own memory stays
        idle = [other for other in self._slots if not other.nbytes and not self._allocates_here]
        idle.sort(key=lambda other: other is slot)  # this slot's own buffer last: it may serve again
        for other in idle:
            if held + sum(other.capacity for other in idle if other is not slot) + max(nbytes, slot.capacity) <= limit:
                break
            other.detach()
        return not held or held + nbytes <= limit

    def _allocate(self, slot: Slot, nbytes: int) -> None:
        """In the consumer's thread, for a worker that waits for it."""
        try:
            slot.memory(nbytes)
        except BaseException as error:
            self._end(error)
            self._closed = True
            raise
        self._changed.notify_all()


class _Closed(BaseException):
    """Nobody takes batches any more."""


class _one_torch_thread_each:
    """Lets `count` new threads set torch to one thread each, and keeps the caller's setting as it was.

    torch remembers the last setting of any thread as the default for threads that come later
    (aten/src/ATen/ParallelOpenMP.cpp), so it is set again once the workers have taken theirs.
    """

    def __init__(self, count: int):
        self._left = count
        self._done = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Callable[[], None]:
        self._before = torch.get_num_threads()
        return self._started

    def _started(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._done.set()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._done.wait()
        torch.set_num_threads(self._before)
