"""Mapping of a function over many items on threads, with the results in the order of the items."""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from mps_shards.storage.cores import available_cores
from mps_shards.storage.interrupts import uninterrupted

__all__ = ["Job", "Stopped", "WorkerPool", "ordered_map", "raise_if_stopped", "worker_pool"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(BaseException):
    """Ends a function whose result is no longer needed.

    Like KeyboardInterrupt it is not an `Exception`, so that handlers of errors do not catch it.
    """


def raise_if_stopped() -> None:
    """Raise `Stopped` in a function that a `WorkerPool` runs, once its result is no longer needed.

    Long functions should call this often. In other threads, it does nothing.
    """
    job: Job[Any] | None = getattr(_thread, "job", None)
    if job is not None and job.is_stopped():
        raise Stopped


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int | None = None,
    name: str = "mps-shards-map",
) -> Iterator[Result]:
    """Compute ``map(function, items)`` on threads, lazily, with the results in the order of the items.

    No call begins before the first result is requested. An error is raised in its item's place, after the results
    before it; later items are dropped at once. An error, Ctrl-C at any moment, or leaving early (`close`) ends
    everything: calls that have not begun are dropped, functions that call `raise_if_stopped` end there, and no thread
    is left when the exception arrives.

    Args:
        items: Iterated in the caller's thread.
        workers: Number of threads; by default one for each available core.
        ahead: Number of items to take beyond the last requested result; by default three for each worker.
        name: Name of the threads.
    """
    workers = available_cores() if workers is None else workers
    pool = WorkerPool(workers, name)  # not worker_pool: Ctrl-C could come before its clean-up begins
    try:
        yield from pool.ordered_map(function, items, ahead=ahead)
    finally:
        try:
            pool.stop()
        except BaseException:  # Ctrl-C interrupted `stop`
            pool.stop()
            raise


@contextlib.contextmanager
def worker_pool(workers: int, *, name: str = "mps-shards-pool") -> "Iterator[WorkerPool]":
    """Start threads that several ordered maps share. Leaving the block stops the maps and waits for the threads.

    Args:
        workers: Largest number of threads. Each thread starts when it is first needed.
        name: Name of the threads.
    """
    pool = WorkerPool(workers, name)
    try:
        yield pool
    finally:
        try:
            pool.stop()
        except BaseException:  # Ctrl-C interrupted `stop`
            pool.stop()
            raise


class WorkerPool:
    """Threads that run functions; see `worker_pool`, which makes a pool.

    Every wait is on a lock written in C, which Ctrl-C cannot leave locked. A `threading.Condition`, and everything that
    is built on it, may stay locked for ever.
    """

    def __init__(self, workers: int, name: str):
        self._workers, self._name = max(1, workers), name
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._run = _Run()

    def submit(self, function: Callable[[Item], Result], item: Item) -> "Job[Result]":
        """Run a function once on a thread of the pool. `Job.result` waits for its result."""
        return self._begin(_Run(self._run), 0, item, function)

    def ordered_map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int | None = None
    ) -> Iterator[Result]:
        """Do what the function `ordered_map` does, also in functions that another pool runs."""
        run, waiting = _Run(self._run), deque[Job[Result]]()
        source = enumerate(items)
        room = 3 * self._workers if ahead is None else ahead
        try:
            while True:
                while len(waiting) <= room:
                    try:
                        waiting.append(self._begin(run, *next(source), function))
                    except StopIteration:
                        room = -1
                    except Exception as error:  # the iterable failed: raised in the place of the next item
                        waiting.append(Job.failed(error))
                        room = -1
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            run.stopped = True
            for job in waiting:
                job.wait()

    def _begin(self, run: "_Run", number: int, item: Item, function: Callable[[Item], Result]) -> "Job[Result]":
        job: Job[Result] = Job(run, number, item, function)
        self._jobs.put(job)
        if len(self._threads) < self._workers:
            self._start_thread()
        return job

    def _start_thread(self) -> None:
        with uninterrupted(), self._starting:
            if len(self._threads) < self._workers:
                name = f"{self._name}_{len(self._threads)}"
                # a daemon, so that after a second Ctrl-C the interpreter does not wait for a thread that hangs
                thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """Drop waiting jobs, stop running jobs, and wait until the threads have ended. May be called twice."""
        self._run.stopped = True
        with contextlib.suppress(Empty):
            while True:  # jobs that have not begun are settled here, since a thread may wait for them
                job = self._jobs.get_nowait()
                if job is not None:
                    job.drop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()


class Job(Generic[Result]):
    """A call of a function that a pool runs."""

    __slots__ = ("_done", "_error", "_function", "_item", "_lock", "_number", "_result", "_run")

    def __init__(self, run: "_Run", number: int, item: Any, function: Callable[[Any], Result]):
        self._run, self._number, self._function, self._item = run, number, function, item
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._done = False
        self._lock = threading.Lock()  # held until the job is done
        self._lock.acquire()

    @classmethod
    def failed(cls, error: Exception) -> "Job[Any]":
        """Return a job that has ended with an error."""
        job: Job[Any] = cls(_Run(), 0, None, lambda item: item)
        job._error = error
        job._settle()
        return job

    def result(self) -> Result:
        """Wait for the function, and return its result or raise its error. Only one thread may call this method."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # None only if None is the result

    def wait(self) -> None:
        """Wait until the function has ended, or is known not to begin."""
        if not self._done:
            self._lock.acquire()

    def run(self) -> None:
        """Call the function. Runs in a thread of the pool."""
        _thread.job = self
        try:
            raise_if_stopped()
            self._result = self._function(self._item)
        except BaseException as error:
            self._error = error
            self._run.failed = min(self._run.failed, self._number)
        _thread.job = None
        self._settle()

    def is_stopped(self) -> bool:
        """Whether the result is no longer needed."""
        return self._number > self._run.failed or self._run.is_stopped()

    def drop(self) -> None:
        """Settle a job that will not begin."""
        self._error = Stopped()
        self._settle()

    def _settle(self) -> None:
        del self._function, self._item
        self._done = True
        self._lock.release()


class _Run:
    """Jobs that are stopped together: when their pool is stopped, or the job that they are part of.

    Attributes:
        failed: Number of the first job that failed; the results of later jobs are not needed.
    """

    __slots__ = ("_outer", "failed", "stopped")

    def __init__(self, *outer: "_Run | Job[Any]") -> None:
        self.stopped, self.failed = False, math.inf
        current: Job[Any] | None = getattr(_thread, "job", None)
        self._outer = outer if current is None else (*outer, current)

    def is_stopped(self) -> bool:
        """Whether this run, its pool or its outer job was stopped."""
        return self.stopped or any(each.is_stopped() for each in self._outer)


_thread = threading.local()


def _work(jobs: "SimpleQueue[Job[Any] | None]") -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job
