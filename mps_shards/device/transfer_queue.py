"""Batches from the workers' queue to the training loop, through an engine."""

import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Slot, State
from mps_shards.batching.worker_threads import Ready, Workers
from mps_shards.device.engines import Engine, Flight
from mps_shards.errors import ShutdownTimeout

__all__ = ["Delivery", "Transfer"]

_PATIENCE_S = 60.0  # for a copy that was issued
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.0002, 0.002  # between two looks at events
_ABANDONED: list[Flight] = []  # memory that a device may still read is never freed


class Delivery(NamedTuple):
    """What the training loop gets of a batch, and its plan. `tensors` is None where all was skipped."""

    tensors: tuple[Any, Any] | None
    keys: list[str]
    plan: Any


class _Issued(NamedTuple):
    flight: Flight | None
    keys: list[str]
    plan: Any


class Transfer:
    """Moves the workers' batches through an engine. Everything runs in the consumer's thread.

    Args:
        verify: called with (batch, what is delivered, number) before each delivery; None to trust.
        patience_s: how long a copy that was issued may take.
    """

    def __init__(
        self,
        workers: Workers,
        engine: Engine,
        *,
        verify: Callable[[HostBatch, object, int], None] | None = None,
        patience_s: float = _PATIENCE_S,
    ):
        self._workers, self._engine, self._verify, self._patience_s = workers, engine, verify, patience_s
        self._stats = workers.stats
        self._issued: deque[_Issued] = deque()
        self._flying: list[Flight] = []

    def deliveries(self) -> Generator[Delivery, None, None]:
        """Every batch in order; then the error, if one stood in the place of a batch.

        Before a batch is returned, up to `engine.ahead` later ones that are ready are issued too. Waits for a batch
        only when none is issued.
        """
        failure: BaseException | None = None
        number = 0
        try:
            while True:
                self._reap()
                while failure is None and len(self._issued) <= self._engine.ahead:
                    ready = self._next()
                    if ready is None:
                        break
                    failure = ready.failure
                    if failure is None:
                        assert ready.batch is not None and ready.slot is not None
                        self._issue(ready.batch, ready.slot, ready.plan)
                    del ready
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
        self._issued.clear()
        self._land()
        self._engine.close()

    def _issue(self, batch: HostBatch, slot: Slot, plan: Any) -> None:
        if not batch.rows:
            self._workers.mark(slot, State.FREE)
            self._issued.append(_Issued(None, [], plan))
            return
        self._issued.append(_Issued(self._sent(batch, slot), batch.keys, plan))

    def _sent(self, batch: HostBatch, slot: Slot) -> Flight:
        began = time.perf_counter()
        self._workers.mark(slot, State.IN_FLIGHT)
        try:
            try:
                flight = self._engine.send(batch, slot)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                flight = self._again(batch, slot)
        except BaseException:
            self._workers.mark(slot, State.QUARANTINED)  # who knows what was issued of it
            raise
        self._stats.send_s += time.perf_counter() - began
        self._stats.bytes_sent += batch.nbytes
        self._flying.append(flight)
        return flight

    def _again(self, batch: HostBatch, slot: Slot) -> Flight:
        """Once more after the device ran out of memory, when all that is under way has landed."""
        self._stats.retries += 1
        self._land()
        return self._engine.send(batch, slot, blocking=True)

    def _received(self, number: int) -> Delivery:
        issued = self._issued.popleft()
        flight = issued.flight
        if flight is None:
            return Delivery(None, [], issued.plan)
        try:
            tensors = self._engine.receive(flight)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            self._flying.remove(flight)
            flight = self._again(flight.batch, flight.slot)
            self._flying.append(flight)
            tensors = self._engine.receive(flight)
        if self._verify is not None:
            self._verify(flight.batch, tensors, number)
        del flight
        self._reap()
        return Delivery(tensors, issued.keys, issued.plan)

    def _next(self) -> Ready | None:
        """The next batch, if it is ready; waits for it only where nothing else can be returned."""
        if self._issued:
            return self._workers.take(wait_s=0)
        if not self._flying:
            return self._workers.take(wait_s=None)
        # for a batch or for a copy, whichever comes first: a worker may be waiting for the copy's slot
        until, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while self._flying and not self._workers.exhausted:
            ready = self._workers.take(wait_s=pause)
            if ready is not None:
                return ready
            if self._reap():
                until = time.monotonic() + self._patience_s
            if time.monotonic() > until:
                raise ShutdownTimeout(
                    f"the device has not finished its copies in {self._patience_s:.0f} s\n{self._workers.describe()}"
                )
            pause = min(2 * pause, _LAST_PAUSE_S)
        return self._workers.take(wait_s=None)

    def _reap(self) -> int:
        """Free the slots whose copies are finished; how many.

        One that failed, or is to be verified, keeps its slot until it is received.
        """
        waiting = {id(issued.flight) for issued in self._issued}
        landed = [
            flight
            for flight in self._flying
            if self._engine.finished(flight) and not ((flight.failure or self._verify) and id(flight) in waiting)
        ]
        for flight in landed:
            self._flying.remove(flight)
            self._stats.flight_s += time.perf_counter() - flight.sent_at
            self._workers.mark(flight.slot, State.FREE)
        return len(landed)

    def _land(self) -> None:
        """Wait until the device has read everything; keep what it has not, rather than free memory under it."""
        until, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while not all(self._engine.finished(flight) for flight in self._flying):
            if time.monotonic() > until:
                _ABANDONED.extend(self._flying)
                raise ShutdownTimeout(
                    f"the device has not finished its copies in {self._patience_s:.0f} s\n{self._workers.describe()}"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE_S)
        self._reap()


def _out_of_memory(error: RuntimeError) -> bool:
    # MPS raises a plain RuntimeError: "MPS backend out of memory (…)"
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)
