"""Simulated device in pure Python that behaves as badly as MPS is allowed to, and raises errors for wrong use.

One thread executes the issued work in order, with a delay. A non-blocking copy reads its source when it is executed,
and holds only a weak reference to the source unless `keep_source` is set. Until then, the destination has wrong values.
Work from a wrong thread, kernels on the side queue, wrong dtypes or strides, memory that Python owns, and `synchronize`
are errors.
"""

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch

from mps_shards.batching.host_buffers import page_aligned

POISON = 171
ACCEPTED = (torch.uint8, torch.float32, torch.int64)


class FakeEvent:
    """Event whose query returns True until it is recorded, as with events from MPS's pool."""

    def __init__(self) -> None:
        self.recorded = False
        self.passed = False

    def query(self) -> bool:
        return self.passed or not self.recorded


class FakeDevice:
    """Simulated device; a context manager that ends the device's thread.

    Args:
        latency: returns the seconds to wait before each piece of work.
        keep_source: hold the source of a copy until the copy is executed.
        reciprocal: convert to float by multiplying with 1 / 255, which is not exact.
        fail: returns the error to raise for the upload with this number, or None.
        transfer_thread: allow copies from a transfer thread.
        corrupt: returns whether the upload with this number alters a value.
    """

    kind = "fake"

    def __init__(
        self,
        *,
        latency: Callable[[], float] = lambda: 0.0,
        keep_source: bool = False,
        reciprocal: bool = False,
        fail: Callable[[int], Exception | None] = lambda number: None,
        transfer_thread: bool = False,
        corrupt: Callable[[int, bool], bool] = lambda number, non_blocking: False,
    ):
        self.latency, self.keep_source, self.reciprocal = latency, keep_source, reciprocal
        self.fail, self.transfer_thread, self.corrupt = fail, transfer_thread, corrupt
        self.uploads = 0
        self.dead_sources = 0
        self.events: list[FakeEvent] = []
        self._owner = threading.get_ident()
        self._on_side = threading.local()
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._held = self._ended = self._busy = False
        self._thread = threading.Thread(target=self._run, name="mps-shards-fake-device")

    def __enter__(self) -> "FakeDevice":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended, self._held = True, False
            self._changed.notify_all()
        self._thread.join()

    def hold(self) -> None:
        """Execute no more work until `go_on` is called."""
        with self._changed:
            self._held = True

    def go_on(self) -> None:
        """Execute work again after `hold`."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all work was executed, which only tests may do."""
        with self._changed:
            self._held = False
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self._jobs and not self._busy, 30)

    def compute(self, seconds: float) -> None:
        """Keep the device busy for some seconds, as a training step does."""
        self._issue(lambda: time.sleep(seconds))

    def synchronize(self) -> None:
        """Raise AssertionError: nothing may call this method."""
        raise AssertionError("synchronize was called: it races with other threads' work on MPS")

    # The contract of mps_shards.device.engines.torch_device.Device

    def host_memory(self, nbytes: int) -> torch.Tensor:
        return page_aligned(nbytes)

    def upload(self, source: torch.Tensor, *, non_blocking: bool) -> torch.Tensor:
        side = getattr(self._on_side, "yes", False)
        assert threading.get_ident() == self._owner or (side and self.transfer_thread), "device touched off-thread"
        if source.dtype not in ACCEPTED:
            raise TypeError(f"the fake device has no {source.dtype}")
        assert source.is_contiguous(), "a source that is not dense is cloned first"
        assert source.untyped_storage().resizable(), "memory that Python owns: freeing it elsewhere needs the GIL"
        self.uploads += 1
        number = self.uploads
        failure = self.fail(number)
        if failure is not None:
            raise failure
        there = _poisoned(source)
        weak, kept = weakref.ref(source), source if self.keep_source or not non_blocking else None

        def copy() -> None:
            found = weak()
            if found is None:
                self.dead_sources += 1
                return
            there.copy_(found)
            if self.corrupt(number, non_blocking):
                there.view(-1)[0] += 1

        self._issue(copy)
        if not non_blocking:
            self._wait()
        del kept
        return there

    def to_float(self, pixels: torch.Tensor) -> torch.Tensor:
        self._check_kernel("to_float")
        assert pixels.dtype == torch.uint8
        there = torch.full(pixels.shape, float("nan"))

        def convert() -> None:
            there.copy_(pixels.float() * (1 / 255) if self.reciprocal else pixels.float() / 255)

        self._issue(convert)
        return there

    def widen(self, labels: torch.Tensor) -> torch.Tensor:
        self._check_kernel("widen")
        there = torch.full(labels.shape, -POISON, dtype=torch.int64)
        self._issue(lambda: _ignore(there.copy_(labels)))
        return there

    def normalize(self, images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> None:
        self._check_kernel("normalize")
        self._issue(lambda: _ignore(images.sub_(mean).div_(std)))

    def read_back(self, tensor: torch.Tensor) -> torch.Tensor:
        self._check_kernel("read_back")
        self._wait()
        return tensor.clone()

    def record(self) -> FakeEvent:
        event = FakeEvent()
        event.recorded = True
        self.events.append(event)
        self._issue(lambda: setattr(event, "passed", True))
        return event

    @contextlib.contextmanager
    def side(self) -> Iterator[None]:
        self._on_side.yes = True
        try:
            yield
        finally:
            self._on_side.yes = False

    def follow(self, event: Any, tensors: list[torch.Tensor]) -> None:
        assert event.recorded, "waited for an event that was not recorded"

    def _check_kernel(self, what: str) -> None:
        assert not getattr(self._on_side, "yes", False), f"{what} in the transfer thread: copies only"
        assert threading.get_ident() == self._owner, f"{what} off-thread"

    def _issue(self, job: Callable[[], None]) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: not self._jobs and not self._busy, 30)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (self._held or not self._jobs):
                    self._changed.wait()
                if not self._jobs:
                    return
                job = self._jobs.popleft()
                self._busy = True
            pause = self.latency()
            if pause:
                time.sleep(pause)
            job()
            del job
            with self._changed:
                self._busy = False
                self._changed.notify_all()


def _poisoned(like: torch.Tensor) -> torch.Tensor:
    return torch.full(like.shape, POISON, dtype=like.dtype)


def _ignore(value: object) -> None:
    """Drop the value of an expression that is a job."""
