"""The engine that issues copies in a thread of its own and on a side stream, which is the default on CUDA.

The host buffers are pinned. Conversion kernels are issued in the consumer's thread and stream; the stream waits for the
copy on the device.
"""

import threading
import time
from collections import deque
from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.device.engines import Flight
from mps_shards.device.engines.inline import converted
from mps_shards.device.engines.torch_device import Device
from mps_shards.errors import ShutdownTimeout
from mps_shards.storage.interrupts import WakeUp, uninterrupted

__all__ = ["ThreadEngine"]

_TIMEOUT_S = 60.0  # longest time that the thread may take to issue a copy, or to end
_POLL_S = 0.5  # interval at which the idle thread checks that the consumer's thread is alive


class ThreadEngine:
    """Copies batches as `InlineEngine` does, with the same arguments, but in a thread that lives until `close`."""

    name = "thread"

    def __init__(
        self, device: Device, *, device_batches: int, non_blocking: bool = True, host_conversion: bool = False
    ):
        self.pixels = torch.float32 if host_conversion else torch.uint8
        self.device_batches = device_batches
        self._device, self._non_blocking = device, non_blocking
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # wakes the engine's thread
        self._issued = WakeUp()  # wakes the consumer's thread
        self._jobs: deque[tuple[Flight, bool]] = deque()
        self._closed = False
        self._owner = threading.current_thread()
        self._thread: threading.Thread | None = None

    def allocate(self, nbytes: int) -> torch.Tensor:
        """Return memory from which the device can copy asynchronously, which is pinned on CUDA."""
        return self._device.host_memory(nbytes)

    def send(self, batch: HostBatch, *, blocking: bool = False) -> Flight:
        """Queue a batch for the thread, which is started for the first batch."""
        if self._thread is None:
            with uninterrupted():
                self._thread = threading.Thread(target=self._work, name="mps-shards-transfer")
                self._thread.start()
        flight = Flight(batch)
        with self._lock:
            self._owner = threading.current_thread()
            self._jobs.append((flight, blocking))
            self._changed.notify_all()
        return flight

    def receive(self, flight: Flight) -> Any:
        """Wait until the copy has been issued (it need not be finished), and return the converted batch.

        Raises:
            ShutdownTimeout: the thread did not issue the copy in time.
            Exception: the copy failed; its error is raised unchanged.
        """
        deadline = time.monotonic() + _TIMEOUT_S
        while flight.event is None and flight.failure is None:
            if not self._issued.wait(deadline - time.monotonic()):
                raise ShutdownTimeout(
                    f"a copy to the device was not issued within {_TIMEOUT_S:.0f} s ({flight.batch.buffer!r})"
                )
        if flight.failure is not None:
            raise flight.failure
        uploaded, flight.device_tensors = flight.device_tensors, []
        self._device.follow(flight.event, uploaded)
        return flight.batch.rebuilt(converted(self._device, flight.batch, uploaded))

    def finished(self, flight: Flight) -> bool:
        """Whether the side stream has passed the copy, or the copy has failed."""
        return flight.failure is not None or (flight.event is not None and bool(flight.event.query()))

    def close(self) -> None:
        """End the thread, and wait for its end. Raises ShutdownTimeout if it does not end in time."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_S)
            if self._thread.is_alive():
                raise ShutdownTimeout(f"{self._thread.name} did not end within {_TIMEOUT_S:.0f} s after the iteration")

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._jobs and not self._closed and self._owner.is_alive():
                    self._changed.wait(_POLL_S)
                if not self._jobs:
                    return
                flight, blocking = self._jobs.popleft()
            try:
                with self._device.side():
                    non_blocking = self._non_blocking and not blocking
                    flight.device_tensors = [
                        self._device.upload(leaf, non_blocking=non_blocking) for leaf in flight.batch.leaves
                    ]
                    event = self._device.record()
            except BaseException as error:  # raised in the consumer's thread, when it receives the batch
                flight.failure = error
            else:
                flight.event = event
            self._issued.set()
            del flight
