"""Batches from the workers' queue to the training loop, through an engine."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from mps_shards.errors import ShutdownTimeout
from mps_shards.feed.batch import HostBatch
from mps_shards.feed.engines import Engine, Flight
from mps_shards.feed.slots import Slot, State
from mps_shards.feed.workers import Workers

__all__ = ["Delivery", "delivered"]

_PATIENCE_S = 60.0  # for a copy that was issued
_ABANDONED: list[Flight] = []  # memory that a device may still read is never freed


class Delivery(NamedTuple):
    """What the training loop gets of a batch, and the token of its draft. `tensors` is None where all was skipped."""

    tensors: tuple[Any, Any] | None
    keys: list[str]
    token: Any


def delivered(workers: Workers, engine: Engine) -> Iterator[Delivery]:
    """Deliver every batch in order; then raise the error, if one stood in the place of a batch.

    Before a batch is returned, up to `engine.ahead` later ones that are ready are issued too. Waits for a batch only
    when none is in flight.
    """
    issued: deque[Delivery] = deque()
    flying: list[Flight] = []
    failure: BaseException | None = None
    try:
        while True:
            _reap(flying, workers, engine)
            while failure is None and len(issued) <= engine.ahead:
                ready = workers.take(wait=not issued)
                if ready is None:
                    break
                failure = ready.failure
                if ready.batch is None or ready.slot is None or failure is not None:
                    break
                if not ready.batch.rows:
                    workers.free(ready.slot)
                    issued.append(Delivery(None, [], ready.token))
                    continue
                tensors, flight = _sent(engine, workers, ready.batch, ready.slot)
                flying.append(flight)
                issued.append(Delivery(tensors, ready.batch.keys, ready.token))
                del ready, tensors  # what the user drops must not live on here
                _reap(flying, workers, engine)
            if not issued:
                if failure is not None:
                    raise failure
                return
            workers.stats.in_flight = len(flying)
            yield issued.popleft()
    finally:
        issued.clear()
        _land(flying, engine)


def _sent(engine: Engine, workers: Workers, batch: HostBatch, slot: Slot) -> tuple[tuple[Any, Any], Flight]:
    began = time.perf_counter()
    slot.state = State.IN_FLIGHT
    try:
        return engine.send(batch, slot)
    except BaseException:
        slot.state = State.QUARANTINED  # who knows what was issued of it
        raise
    finally:
        workers.stats.send_s += time.perf_counter() - began
        workers.stats.bytes_sent += batch.nbytes


def _reap(flying: list[Flight], workers: Workers, engine: Engine) -> None:
    """Free the slots whose copies are finished."""
    for flight in [flight for flight in flying if engine.finished(flight)]:
        flying.remove(flight)
        workers.free(flight.slot)


def _land(flying: list[Flight], engine: Engine) -> None:
    """Wait until the device has read everything; keep what it has not, rather than free memory under it."""
    until, pause = time.monotonic() + _PATIENCE_S, 0.0002
    while flying := [flight for flight in flying if not engine.finished(flight)]:
        if time.monotonic() > until:
            _ABANDONED.extend(flying)
            slots = ", ".join(repr(flight.slot) for flight in flying)
            raise ShutdownTimeout(f"the device has not finished {len(flying)} copies in {_PATIENCE_S:.0f} s: {slots}")
        time.sleep(pause)
        pause = min(2 * pause, 0.002)
