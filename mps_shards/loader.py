"""`DeviceLoader`: batches of a `ShardDataset` on a device, made by threads ahead of the training loop."""

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch

from mps_shards.batching.batch_source import Iteration
from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import Recycler, Slot
from mps_shards.batching.worker_threads import Workers
from mps_shards.dataset import ShardDataset
from mps_shards.device.engines import Engine
from mps_shards.device.engines.torch_device import Device, TorchDevice
from mps_shards.device.owner_thread import claim
from mps_shards.device.selection import choose, engine_for, with_findings
from mps_shards.device.startup_check import check_arrived, check_device
from mps_shards.device.transfer_queue import Delivery, Transfer
from mps_shards.errors import ConfigError
from mps_shards.metrics import LoaderStats, SkipReport

__all__ = ["DeviceLoader", "available_cores"]

_log = logging.getLogger("mps_shards")

_TELL_EVERY_S = 1.0  # often enough for a curve or a live line, too seldom to cost anything


class DeviceLoader:
    """Iterates over a `ShardDataset` like a DataLoader, with the batches on a device.

    Threads read, decode and fill host slots ahead of need; each batch is then moved by the engine that is right for
    the device and this version of torch (`explain()` says which and why). A delivered batch belongs to the caller and
    is never written again. Batches are those of the data set, in its order, whatever the number of threads.

    Every iteration has its own threads and slots, which are gone when it ends: by exhaustion, `break`, an error,
    `close()`, or when nobody holds it any more.

    Args:
        device: "auto" (MPS, else CUDA, else the CPU), or a torch device.
        workers: threads that read and decode; by default the cores of this process.
        ahead: batches issued to the device before the one that is returned.
        ready: batches that wait in host memory. There are ready + ahead + 2 slots.
        memory: bytes of host memory for slots at most; one batch is always allowed. With ``pad=``, the samples of the
            batches that are being made come on top, until the last of each says how large its batch must be.
        transfer: an engine's name ("inline", "thread", "alias", "cpu") instead of the device's default; "-blocking"
            behind it makes copies block.
        verify_transfer: read this many batches of each iteration back from the device, and compare them bit for bit
            with what was sent. Waits for the device each time.
        on_stats: given `stats()` about once a second, in the training loop's thread as it takes a batch, and once more
            when an iteration is exhausted. What it raises ends the iteration. `metrics.scalars_to` makes one for
            TensorBoard.

    Raises:
        ConfigError: no such device here, or a number that cannot work.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        *,
        device: str | torch.device = "auto",
        workers: int | None = None,
        ahead: int = 1,
        ready: int = 2,
        memory: int | None = None,
        transfer: str | None = None,
        verify_transfer: int = 0,
        on_stats: Callable[[LoaderStats], None] | None = None,
    ):
        if not isinstance(dataset, ShardDataset):
            raise ConfigError(f"DeviceLoader takes a ShardDataset, not {type(dataset).__name__}")
        _at_least(1, workers=workers, ready=ready, memory=memory)
        _at_least(0, ahead=ahead, verify_transfer=verify_transfer)
        self.dataset = dataset
        self.choice = choose(device, transfer, verify=verify_transfer)
        self.device = self.choice.device
        self._there: Device | None = None
        self._threads = workers or available_cores()
        self._ahead, self._ready, self._memory = ahead, ready, memory
        self._on_stats = on_stats
        # what is idle is no part of the budget, so where there is one nothing is kept
        self._recycler = Recycler(keep=ready + ahead + 2 if memory is None else 0)
        self._stats = LoaderStats()
        self._workers: Callable[[], Workers | None] = lambda: None
        self._iteration: Iteration[Any] | None = None  # the latest one
        self._begun: Iteration[Any] | None = None  # the latest one that has begun
        self._running: list[weakref.ref[Generator[Any, None, None]]] = []

    def __iter__(self) -> Iterator[Any]:
        iteration = self._iteration = self.dataset.iteration()
        batches = self._batches(iteration)
        self._running = [running for running in self._running if running() is not None] + [weakref.ref(batches)]
        return self.dataset.apply_stages(batches)

    def __len__(self) -> int:
        """Batches of an epoch on this rank. See `ShardDataset.__len__`."""
        return len(self.dataset)

    def _batches(self, iteration: Iteration[Any]) -> Generator[Any, None, None]:
        stats = self._stats = LoaderStats()
        began = time.perf_counter()
        iteration.begin()
        self._begun = iteration
        self._prepare()
        engine = engine_for(self.choice, self._there, ahead=self._ahead, memory=self._recycler)
        workers = self._workers_of(iteration, engine, stats)
        self._workers = weakref.ref(workers)
        deliveries = Transfer(workers, engine, verify=self._verify if self.choice.verify else None).deliveries()
        try:
            workers.start()
            told_s = 0.0
            while (delivery := next(deliveries, None)) is not None:
                content = [self._content(delivery, iteration, stats)]
                _measure(stats, began, iteration)
                del delivery  # what the user drops must not live on here
                if self._on_stats is not None and stats.elapsed_s - told_s >= _TELL_EVERY_S:
                    told_s = stats.elapsed_s
                    self._on_stats(self.stats())
                if content[0] is not None:
                    yield content.pop()
            iteration.end()
            _measure(stats, began, iteration)
            if self._on_stats is not None:
                self._on_stats(self.stats())
            _log.info("%d images in %.1f s; %s", stats.images, stats.elapsed_s, stats.verdict())
        finally:
            try:
                _shut_down(deliveries, iteration, workers)
            except (KeyboardInterrupt, SystemExit):  # it fell into tidying up
                _shut_down(deliveries, iteration, workers)
                raise

    def _workers_of(self, iteration: Iteration[Any], engine: Engine, stats: LoaderStats) -> Workers:
        return Workers(
            iteration,
            slots=[Slot(number, engine.allocate) for number in range(self._ready + self._ahead + 2)],
            pixels=engine.pixels,
            threads=self._threads,
            max_bytes=self._memory,
            stats=stats,
            allocates_here=engine.allocates_here,
        )

    def _prepare(self) -> None:
        """In the consumer's thread, before anything else: may it use the device, and does what it sends arrive?"""
        if self.device.type == "mps":
            claim("mps")
        if self.choice.engine != "cpu" and self._there is None:
            there = TorchDevice(self.device)
            found = check_device(there, non_blocking=self.choice.non_blocking)
            self.choice = with_findings(self.choice, found)
            self._there = there

    def _verify(self, batch: HostBatch, delivered: object, number: int) -> None:
        if self._there is not None and number < self.choice.verify:
            check_arrived(self._there, batch, delivered, number=number)

    def _content(self, delivery: Delivery, iteration: Iteration[Any], stats: LoaderStats) -> Any:
        content = iteration.deliver(delivery.plan, delivery.tensors, delivery.keys)
        stats.batches += 1
        stats.images += len(delivery.keys)
        return content

    def set_epoch(self, epoch: int) -> None:
        """See `ShardDataset.set_epoch`."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """The cursor after the last batch that this loader delivered, however far the threads have run ahead.

        Other loaders and iterations over the same data set do not change it.
        """
        state = self._iteration.state_dict() if self._iteration is not None else None
        return self.dataset.state_dict() if state is None else state

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """See `ShardDataset.load_state_dict`."""
        self.dataset.load_state_dict(state, strict=strict)

    def stats(self) -> LoaderStats:
        """What the current iteration measured so far, or the last one in all: a copy, which stays as it is."""
        workers = self._workers()
        filling, ready, in_flight = workers.levels() if workers is not None else (0, 0, 0)
        skips = self._begun.skips() if self._begun is not None else SkipReport()
        return replace(
            self._stats, filling=filling, ready=ready, in_flight=in_flight, skipped=skips.count, skips=skips.first
        )

    def explain(self) -> str:
        """Which device, engine, copies and conversion, and why; the start-up check adds to it when iterating begins."""
        return str(self.choice)

    def __repr__(self) -> str:
        return f"DeviceLoader({self.dataset!r}, {self.choice}, workers={self._threads})"

    def close(self) -> None:
        """End every iteration that is still open, let go of idle memory, and close the data set's files."""
        for running in self._running:
            if (batches := running()) is not None:
                batches.close()
        self._recycler.clear()
        self.dataset.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _measure(stats: LoaderStats, began: float, iteration: Iteration[Any]) -> None:
    stats.elapsed_s = time.perf_counter() - began
    traffic = iteration.traffic()
    stats.requests, stats.bytes_fetched = traffic.requests, traffic.bytes
    stats.request_retries, stats.cache_hits, stats.waited_s = traffic.retries, traffic.hits, traffic.waited_s


def _shut_down(deliveries: Generator[Delivery, None, None], iteration: Iteration[Any], workers: Workers) -> None:
    with contextlib.ExitStack() as ending:
        ending.callback(workers.stop)
        ending.callback(iteration.cancel)  # before the join: a worker may be waiting for a store
        ending.callback(deliveries.close)


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
