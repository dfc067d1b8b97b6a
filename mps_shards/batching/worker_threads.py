"""Worker threads that make samples and write them into host buffers. Batches and errors are delivered in order.

The threads run until they are stopped, or until the thread that takes the batches has ended. Without the second rule,
the interpreter would wait for them for ever when it exits.
"""

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mps_shards.batching.batch_source import BatchWork
from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import BufferState, HostBuffer
from mps_shards.errors import ShutdownTimeout
from mps_shards.metrics import LoaderStats, StageTimes
from mps_shards.storage.interrupts import WakeUp, uninterrupted

__all__ = ["Workers"]

_STOP_TIMEOUT_S = 60.0  # longest wait, when the threads are stopped, for the samples that they are making
_POLL_S = 0.5  # interval at which an idle worker checks that the consumer's thread is alive
# Most rows that a worker takes at once, and how many it takes even if two batches must then be made at the same time to
# keep all workers busy. Python's work for each taking, under the GIL, would otherwise limit the rate of many workers.
_MOST_ROWS, _WORTHWHILE_ROWS = 16, 8


class Workers:
    """Threads that make the batches of an iteration, in order, from `start` to `stop`.

    Args:
        work: iteration whose batches are made.
        buffers: all host buffers that may be in use at once.
        pixels: dtype in which uint8 images are stored, see `HostBatch`.
        num_threads: number of threads.
        max_bytes: limit for the memory of all buffers together; a single batch may be larger. None sets no limit.
        stats: statistics that the threads update.
    """

    def __init__(
        self,
        work: BatchWork[Any],
        *,
        buffers: list[HostBuffer],
        pixels: torch.dtype,
        num_threads: int,
        max_bytes: int | None,
        stats: LoaderStats,
    ):
        self._work, self._plans, self.buffers, self._pixels = work, work.plans(), buffers, pixels
        self._max_bytes, self.stats = max_bytes, stats
        self._planning = threading.Lock()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # workers wait on it
        self._batch_ready = WakeUp()  # the consumer waits on it
        self._batches: deque[HostBatch] = (
            deque()
        )  # oldest first; only the last one may have rows that no worker has taken
        self._newest: HostBatch | None = None  # guarded by _planning; the only batch with rows to give to workers
        self._ended = self._stopped = False
        self._idle = 0  # number of workers without rows to make
        self._pid = os.getpid()
        self._consumer = threading.current_thread()
        self._threads = [
            threading.Thread(target=self._run, name=f"mps-shards-worker-{number}") for number in range(num_threads)
        ]
        stats.workers = num_threads

    def start(self) -> None:
        """Start all threads; if one cannot start, stop the others."""
        try:
            with uninterrupted(), _SingleThreadedTorch(len(self._threads)) as self._started:
                for thread in self._threads:
                    thread.start()
        except BaseException:
            self.stop()
            raise

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked child's copy, in which neither the threads nor the holders of locks exist."""
        return self._pid != os.getpid()

    def stop(self) -> None:
        """Stop the threads, and wait until they have ended. May be called any number of times.

        Raises:
            ShutdownTimeout: a thread did not end in time.
        """
        if self.is_forked:
            return
        with self._lock:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(max(0.0, deadline - time.monotonic()))
        busy = [thread.name for thread in started if thread.is_alive()]
        if busy:
            raise ShutdownTimeout(
                f"{', '.join(busy)} did not end within {_STOP_TIMEOUT_S:.0f} s after the iteration\n{self.describe()}"
            )
        self._plans.close()  # the generator may have open files

    def take(self, *, wait_s: float | None) -> HostBatch | None:
        """Return the next batch in order, which is READY or has a `failure`.

        Args:
            wait_s: longest wait for the batch, in seconds; None waits as long as necessary.

        Returns:
            The batch; None after the last batch, or if `wait_s` has passed.
        """
        began = time.perf_counter()
        deadline = None if wait_s is None else began + wait_s
        while True:
            with self._lock:
                self._consumer = threading.current_thread()
                batch = self._pop_ready()
                exhausted = batch is None and self._ended and not self._batches
            now = time.perf_counter()
            if batch or exhausted or (deadline is not None and deadline <= now):
                break
            self._batch_ready.wait(None if deadline is None else deadline - now)
        if wait_s != 0:
            self.stats.starved_s += now - began
        return batch

    def _pop_ready(self) -> HostBatch | None:
        if not self._batches or self._batches[0].rows_left:
            return None
        self._changed.notify_all()
        return self._batches.popleft()

    @property
    def exhausted(self) -> bool:
        """Whether every batch has been taken."""
        with self._lock:
            return self._ended and not self._batches

    def mark(self, batch: HostBatch, state: BufferState) -> None:
        """Change the state of a batch's buffer. Workers may reuse a FREE buffer at once."""
        buffer = batch.buffer
        assert buffer is not None
        with self._lock:
            buffer.state = state
            if state is BufferState.FREE:
                buffer.nbytes = 0
                self._changed.notify_all()

    def levels(self) -> tuple[int, int, int]:
        """Return the numbers of batches that are being filled, ready, and in flight."""
        if self.is_forked:
            return 0, 0, 0
        with self._lock:
            ready = sum(batch.rows_left == 0 for batch in self._batches)
            in_flight = sum(buffer.state is BufferState.IN_FLIGHT for buffer in self.buffers)
            return len(self._batches) - ready, ready, in_flight

    def describe(self) -> str:
        """Return a line about the queue and one line about each host buffer, for error messages."""
        filling, ready, in_flight = self.levels()
        lines = [f"{filling} batches being filled, {ready} ready, {in_flight} in flight", *map(repr, self.buffers)]
        return "\n".join(lines)

    # Everything below runs in the worker threads.

    def _run(self) -> None:
        torch.get_num_threads()  # torch initialises a thread at the thread's first call, from the common setting
        torch.set_num_threads(1)
        self._started()
        times = StageTimes()
        try:
            make = self._work.sample_maker(times)
            while (taken := self._take_rows()) is not None:
                batch, first, last = taken
                failure: tuple[int, BaseException] | None = None
                try:
                    make(batch, first, last)
                except BaseException as error:  # raised in the consumer's thread, when it takes the batch
                    failure = (first, error)  # of the rows that a worker takes at once, at most one fails
                self._finish_rows(batch, last - first, failure, times)
        except BaseException as error:  # not from making a sample; unreported, the consumer would wait for ever
            with self._lock:
                self._end(error)

    def _finish_rows(
        self, batch: HostBatch, count: int, failure: tuple[int, BaseException] | None, times: StageTimes
    ) -> None:
        with self._lock:
            if failure is not None:
                batch.fail(*failure)
            self.stats.add(times.take())
            if batch.rows_left > count:
                batch.rows_left -= count
                return
        skipped = 0
        if batch.failure is None:
            try:
                skipped = batch.complete()
            except BaseException as error:
                batch.fail(0, error)
        with self._lock:
            self.stats.skipped += skipped
            batch.rows_left = 0
            batch.reserve = lambda nbytes: None  # breaks a reference cycle that would keep the batch until the next gc
            if batch.buffer is not None:
                batch.buffer.nbytes = min(batch.buffer.nbytes, batch.nbytes)  # releases temporary memory
                batch.buffer.state = BufferState.READY if batch.failure is None else BufferState.QUARANTINED
            self._changed.notify_all()
            self._batch_ready.set()

    def _take_rows(self) -> tuple[HostBatch, int, int] | None:
        """Return (batch, first, last), the rows `first` to `last - 1` that a worker makes next; None after the end."""
        with self._lock:
            self._idle += 1
        with self._planning:  # workers that wait for this lock have nothing else to do
            batch = self._newest
            if batch is None or batch.next_row == len(batch.plan):
                batch = self._newest = self._open_batch()
            with self._lock:
                self._idle -= 1
            if batch is None:
                return None
            rows = len(batch.plan)
            at_once = 2 if self._max_bytes is None else 1  # a second batch may have to wait for memory
            count = _rows_at_once(rows, len(self._threads), batches=at_once)
            first, last = batch.next_row, min(batch.next_row + count, rows)
            batch.next_row = last
            return batch, first, last

    def _open_batch(self) -> HostBatch | None:
        buffer = self._wait_for_buffer()
        if buffer is None:
            return None
        failure: BaseException | None = None
        plan = None
        began = time.perf_counter()
        try:
            plan = next(self._plans, None)
        except BaseException as error:  # raised instead of this batch, after the earlier batches were taken
            failure = error
        with self._lock:
            self.stats.read_s += time.perf_counter() - began  # tars without an index are read while planning
            if plan is None:
                buffer.state = BufferState.FREE
                self._end(failure)
                return None
            batch = self._work.new_batch(plan, lambda nbytes: self._allocate(buffer, nbytes), self._pixels)
            batch.buffer = buffer
            if self._max_bytes is not None:
                batch.reserve = partial(self._reserve, batch, buffer, self._max_bytes)
            self._batches.append(batch)
            return batch

    def _end(self, failure: BaseException | None) -> None:
        """Record that no further batch follows. A failure is raised after the last batch was taken."""
        if failure is not None:
            self._batches.append(HostBatch.failed(failure))
        self._ended = True
        self._changed.notify_all()
        self._batch_ready.set()

    def _wait_for_buffer(self) -> HostBuffer | None:
        with self._lock:
            while not self._stopped and not self._ended and self._consumer.is_alive():
                for buffer in self.buffers:
                    if buffer.state is BufferState.FREE:
                        buffer.state = BufferState.FILLING
                        return buffer
                began = time.perf_counter()
                self._changed.wait(_POLL_S)
                self.stats.blocked_s += (time.perf_counter() - began) * self._idle
            return None

    def _allocate(self, buffer: HostBuffer, nbytes: int) -> torch.Tensor:
        """Wait until a batch of `nbytes` fits into the limit for all buffers, and return the buffer's memory for it.

        Memory is granted in the order of the batches, so that no batch waits for memory that a later batch holds.
        """
        with self._lock:
            while self._max_bytes is not None and not self._make_room(buffer, nbytes, self._max_bytes):
                if self._stopped or not self._consumer.is_alive():
                    raise _Stopped
                self._changed.wait(_POLL_S)
            buffer.nbytes = max(buffer.nbytes, nbytes)
            self._changed.notify_all()
            return buffer.memory(nbytes)

    def _reserve(self, batch: HostBatch, buffer: HostBuffer, limit: int, nbytes: int) -> int | None:
        """Wait until `nbytes` of kept samples fit into the limit for all buffers; return the limit if they never fit.

        Batches that keep their samples, instead of writing rows, are made one at a time: a second one could hold memory
        that the first one still needs.
        """
        if nbytes > limit:
            return limit
        with self._lock:
            while self._has_unfinished_before(batch) or not self._make_room(buffer, nbytes, limit):
                if self._stopped or not self._consumer.is_alive():
                    raise _Stopped
                self._changed.wait(_POLL_S)
            buffer.nbytes = max(buffer.nbytes, nbytes)
            return None

    def _has_unfinished_before(self, batch: HostBatch) -> bool:
        return any(older.rows_left for older in itertools.takewhile(lambda each: each is not batch, self._batches))

    def _make_room(self, buffer: HostBuffer, nbytes: int, limit: int) -> bool:
        """Free idle memory of buffers if necessary, and return whether the buffer may take `nbytes` now."""
        for older in self._batches:
            if older.buffer is buffer:
                break
            if older.rows_left and older.buffer is not None and not older.buffer.nbytes:
                return False
        in_use = sum(
            max(other.nbytes, other.capacity) for other in self.buffers if other.nbytes and other is not buffer
        )
        nbytes = max(nbytes, buffer.nbytes)
        # memory that idle buffers keep counts, too; this buffer's memory is freed last, because it may be reused
        idle = [other for other in self.buffers if not other.nbytes or other is buffer]
        idle.sort(key=lambda other: other is buffer)
        for other in idle:
            kept = sum(each.capacity for each in idle if each is not buffer)
            if in_use + kept + max(nbytes, buffer.capacity) <= limit:
                break
            other.detach()
        return not in_use or in_use + nbytes <= limit


def _rows_at_once(rows: int, workers: int, *, batches: int) -> int:
    """Return how many rows of a batch a worker takes at once: few, so that all workers finish a batch together.

    Args:
        batches: number of batches that may be made at the same time to keep all workers busy.
    """
    several = min(_WORTHWHILE_ROWS, batches * rows // workers)
    return max(1, min(_MOST_ROWS, max(rows // (2 * workers), several)))


class _Stopped(BaseException):
    """Ends a worker thread that waits for memory, because no more batches are taken."""


class _SingleThreadedTorch:
    """Context in which `count` new threads set torch to one thread each; leaving it restores the caller's setting.

    torch takes the last setting of any thread as the default for threads that start later
    (aten/src/ATen/ParallelOpenMP.cpp), so the caller's setting is restored once all new threads have set theirs.
    """

    def __init__(self, count: int):
        self._left = count
        self._all_started = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Callable[[], None]:
        self._before = torch.get_num_threads()
        return self._started

    def _started(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._all_started.set()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self._all_started.wait()
        torch.set_num_threads(self._before)
