"""The queue that moves batches from the worker threads to the training loop, through a transfer engine."""

import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import BufferState
from mps_shards.batching.worker_threads import Workers
from mps_shards.device.engines import Engine, Flight
from mps_shards.errors import ShutdownTimeout

__all__ = ["TransferQueue"]

_TIMEOUT_S = 60.0  # longest time that a device may take for a copy that was issued
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.0002, 0.002  # shortest and longest pause between two queries of events
_ABANDONED: list[Flight] = []  # copies that timed out; their memory is never freed, because a device may still read it


class TransferQueue:
    """Sends the batches of worker threads through an engine. Only the consumer's thread may use it.

    Args:
        workers: threads that make the batches.
        engine: engine that sends the batches.
        verify: function that is called with (batch, delivered tensors, number of the batch) before each delivery; None
            for no check.
        timeout_s: longest time in seconds that an issued copy may take.
    """

    def __init__(
        self,
        workers: Workers,
        engine: Engine,
        *,
        verify: Callable[[HostBatch, object, int], None] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ):
        self._workers, self._engine, self._verify, self._timeout_s = workers, engine, verify, timeout_s
        self._stats = workers.stats
        self._issued: deque[Flight] = deque()  # batches that have been sent, but not delivered
        self._in_flight: list[Flight] = []  # batches whose copies are not known to be finished

    def deliveries(self) -> Generator[tuple[HostBatch, Any], None, None]:
        """Yield every batch in order, with its tensors on the device; an error is raised after the batches before it.

        The tensors are None if every sample of a batch was skipped. Before a batch is yielded, up to
        `engine.device_batches` later batches are sent if they are ready. Waits for a batch only if none has been sent.
        """
        failure: BaseException | None = None
        number = 0
        try:
            while True:
                self._free_finished()
                while failure is None and len(self._issued) <= self._engine.device_batches:
                    batch = self._next_batch()
                    if batch is None:
                        break
                    failure = batch.failure
                    if failure is None:
                        self._issue(batch)
                    del batch
                if not self._issued:
                    if failure is not None:
                        raise failure
                    return
                yield self._received(number)
                number += 1
        finally:
            try:
                self._close()
            except (KeyboardInterrupt, SystemExit):
                self._close()
                raise

    def _close(self) -> None:
        if self._workers.is_forked:  # the copies and the engine's thread belong to the parent process
            return
        self._issued.clear()
        self._wait_for_all()
        self._engine.close()

    def _issue(self, batch: HostBatch) -> None:
        if batch.is_empty:
            self._workers.mark(batch, BufferState.FREE)
            self._issued.append(Flight(batch))
        else:
            self._issued.append(self._sent(batch))

    def _sent(self, batch: HostBatch) -> Flight:
        began = time.perf_counter()
        self._workers.mark(batch, BufferState.IN_FLIGHT)
        try:
            try:
                flight = self._engine.send(batch)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                flight = self._sent_again(batch)
        except BaseException:
            self._workers.mark(batch, BufferState.QUARANTINED)  # part of the copies may have been issued
            raise
        self._stats.send_s += time.perf_counter() - began
        self._stats.bytes_sent += batch.nbytes
        self._in_flight.append(flight)
        return flight

    def _sent_again(self, batch: HostBatch) -> Flight:
        """Send a batch again after the device ran out of memory: wait for all other copies, then copy and block."""
        self._stats.retries += 1
        self._wait_for_all()
        return self._engine.send(batch, blocking=True)

    def _received(self, number: int) -> tuple[HostBatch, Any]:
        flight = self._issued.popleft()
        batch = flight.batch
        if batch.is_empty:
            return batch, None
        try:
            tensors = self._engine.receive(flight)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            self._in_flight.remove(flight)
            flight = self._sent_again(batch)
            self._in_flight.append(flight)
            tensors = self._engine.receive(flight)
        if self._verify is not None:
            self._verify(batch, tensors, number)
        del flight
        self._free_finished()
        return batch, tensors

    def _next_batch(self) -> HostBatch | None:
        """Return the next batch if it is ready; wait for it only if no sent batch can be delivered meanwhile."""
        if self._issued:
            return self._workers.take(wait_s=0)
        if not self._in_flight:
            return self._workers.take(wait_s=None)
        # wait for a batch or for a copy, whichever comes first: a worker may be waiting for the buffer of that copy
        deadline, pause = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        while self._in_flight and not self._workers.exhausted:
            batch = self._workers.take(wait_s=pause)
            if batch is not None:
                return batch
            if self._free_finished():
                deadline = time.monotonic() + self._timeout_s
            if time.monotonic() > deadline:
                raise self._timeout()
            pause = min(2 * pause, _LAST_PAUSE_S)
        return self._workers.take(wait_s=None)

    def _free_finished(self) -> int:
        """Free the host buffers whose copies are finished, and return their number.

        A batch whose copy failed, or that is to be verified, keeps its buffer until it is delivered.
        """
        waiting = {id(flight) for flight in self._issued}
        finished = [
            flight
            for flight in self._in_flight
            if self._engine.finished(flight) and not ((flight.failure or self._verify) and id(flight) in waiting)
        ]
        for flight in finished:
            self._in_flight.remove(flight)
            self._stats.flight_s += time.perf_counter() - flight.sent_at
            self._workers.mark(flight.batch, BufferState.FREE)
        return len(finished)

    def _wait_for_all(self) -> None:
        """Wait until the device has finished all copies. If a copy times out, its memory is never freed."""
        deadline, pause = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        while not all(self._engine.finished(flight) for flight in self._in_flight):
            if time.monotonic() > deadline:
                _ABANDONED.extend(self._in_flight)
                raise self._timeout()
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_S)
        self._free_finished()

    def _timeout(self) -> ShutdownTimeout:
        return ShutdownTimeout(
            f"the device has not finished its copies in {self._timeout_s:.0f} s\n{self._workers.describe()}"
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    # MPS raises a plain RuntimeError: "MPS backend out of memory (...)"
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
