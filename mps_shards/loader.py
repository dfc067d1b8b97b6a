"""`DeviceLoader`, which delivers batches on a device; threads make them ahead of the training loop."""

import contextlib
import logging
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch

from mps_shards import native
from mps_shards.batching.batch_source import Iteration
from mps_shards.batching.host_batch import HostBatch
from mps_shards.batching.host_buffers import HostBuffer, Recycler
from mps_shards.batching.worker_threads import Workers
from mps_shards.batching.wrapped_batches import WrappedBatches
from mps_shards.dataset import ShardDataset
from mps_shards.device.device_choice import choose, engine_for, with_check_result
from mps_shards.device.engines.torch_device import Device, TorchDevice
from mps_shards.device.owner_thread import claim
from mps_shards.device.startup_check import check_arrived, check_device
from mps_shards.device.transfer_queue import TransferQueue
from mps_shards.errors import ConfigError
from mps_shards.metrics import LoaderStats, SkipReport
from mps_shards.storage.cores import available_cores

__all__ = ["DeviceLoader"]

_log = logging.getLogger("mps_shards")

_REPORT_EVERY_S = 1.0  # interval of calls of on_stats: short enough for a curve, and too long to slow down training
_SPARE_BUFFERS = 2  # one buffer that is filled while all others are full, and one whose batch is being delivered


class DeviceLoader:
    """Iterates over the batches of a `ShardDataset` like a DataLoader, and delivers them on a device.

    It also takes a torch DataLoader, or any other iterable of batches (tuples, lists and dicts of tensors), and moves
    the tensors to the device in the background. Other values in a batch are not changed.

        augment = classify.train(224)
        data = ShardDataset("imgs-shards", batch_size=64, transform=augment)
        for images, targets in DeviceLoader(data, device="auto"):
            ...

    Threads read and decode samples and fill host buffers ahead of the training loop. A transfer engine, chosen by the
    device and the version of torch, then moves each batch (`explain()` names the engine and the reasons). A delivered
    batch belongs to the caller and is never written again. Batches and their order are those of the data set, for any
    number of threads.

    Every iteration has its own threads and host buffers. They end with the iteration: when it is exhausted or closed,
    on `break`, on an error, or when nothing refers to the iterator any more.

    Args:
        batches: a `ShardDataset`, a torch DataLoader, or another iterable of batches.
        device: a torch device, or "auto" for MPS, or CUDA if there is no MPS, or otherwise the CPU.
        num_threads: number of threads that read and decode; by default the number of available cores.
        host_batches: number of finished batches that may wait in host memory.
        device_batches: number of batches to send to the device before the next one is delivered.
        memory: limit in bytes for all host buffers together; a single batch may be larger. A batch with ``pad=`` counts
            together with its samples, and is refused if it is larger than the limit.
        transfer: name of a transfer engine ("inline", "thread", "cpu") instead of the device's default, followed by
            "-blocking" for copies that block.
        verify_transfer: number of first batches of each iteration that are read back from the device and compared bit
            for bit with their host buffers. Waits for the device each time.
        to_float: deliver uint8 images [batch, channels, height, width] of a DataLoader or another iterable as float32,
            exactly as ToTensor does, converted on the device, so that only a quarter of the bytes is sent.
        on_stats: function that is called with `stats()` about once a second, in the training loop's thread while it
            takes a batch, and once more when an iteration is exhausted. An error that it raises ends the iteration.
            `mps_shards.scalars_to` returns such a function for TensorBoard.

    Raises:
        ConfigError: this machine has no such device, or a number is out of range.
    """

    def __init__(
        self,
        batches: ShardDataset | Iterable[Any],
        *,
        device: str | torch.device = "auto",
        num_threads: int | None = None,
        host_batches: int = 2,
        device_batches: int = 1,
        memory: int | None = None,
        transfer: str | None = None,
        verify_transfer: int = 0,
        to_float: bool = False,
        on_stats: Callable[[LoaderStats], None] | None = None,
    ):
        _check_at_least(1, num_threads=num_threads, host_batches=host_batches, memory=memory)
        _check_at_least(0, device_batches=device_batches, verify_transfer=verify_transfer)
        if on_stats is not None and not callable(on_stats):
            raise ConfigError(f"on_stats must be a function of the statistics, not {on_stats!r}")
        self.choice = choose(device, transfer, verify=verify_transfer)
        self.device = self.choice.device
        self._source = _source_of(batches, self.device.type, to_float=to_float)
        self._checked_device: Device | None = None
        # finished batches are only copied, which one thread does faster than any loader makes them
        self._num_threads = num_threads or (1 if isinstance(self._source, WrappedBatches) else available_cores())
        self._host_batches, self._device_batches, self._memory = host_batches, device_batches, memory
        self._on_stats = on_stats
        # idle memory would not count towards the limit, so none is kept if there is a limit
        self._recycler = Recycler(keep=host_batches + device_batches + _SPARE_BUFFERS if memory is None else 0)
        self._stats = LoaderStats()
        self._workers: Callable[[], Workers | None] = _no_workers
        self._iteration: Iteration[Any] | None = None  # the latest iteration
        self._begun: Iteration[Any] | None = None  # the latest iteration that has begun
        self._running: list[weakref.ref[Generator[Any, None, None]]] = []

    def __iter__(self) -> Iterator[Any]:
        iteration = self._iteration = self._source.iteration()
        batches = self._batches(iteration)
        self._running = [running for running in self._running if running() is not None] + [weakref.ref(batches)]
        return self._source.apply_stages(batches)

    def __len__(self) -> int:
        """Return the number of batches of an epoch on this rank. Raises TypeError if the number is not known."""
        return len(self._source)

    @property
    def dataset(self) -> Any:
        """The data set, whose length is its number of samples, as in torch: ``correct / len(loader.dataset)``.

        Other attributes are those of the data set, such as ``loader.dataset.classes``. A loader over a torch DataLoader
        returns the data set of the DataLoader.
        """
        return self._source.dataset if isinstance(self._source, WrappedBatches) else _CountedInSamples(self._source)

    def _batches(self, iteration: Iteration[Any]) -> Generator[Any, None, None]:
        stats = self._stats = LoaderStats()
        began = time.perf_counter()
        iteration.begin()
        self._begun = iteration
        self._prepare_device()
        engine = engine_for(self.choice, self._checked_device, self._device_batches, self._recycler)
        count = self._host_batches + self._device_batches + _SPARE_BUFFERS
        workers = Workers(
            iteration,
            buffers=[HostBuffer(number, engine.allocate) for number in range(count)],
            pixels=engine.pixels,
            num_threads=self._num_threads,
            max_bytes=self._memory,
            stats=stats,
        )
        self._workers = weakref.ref(workers)
        deliveries = TransferQueue(workers, engine, verify=self._verify if self.choice.verify else None).deliveries()
        try:
            workers.start()
            reported_s = 0.0
            while (delivery := next(deliveries, None)) is not None:
                batch, tensors = delivery
                content = [iteration.deliver(batch.plan, tensors, batch.keys)]
                stats.batches += 1
                stats.images += batch.rows
                _measure(stats, began, iteration)
                del delivery, batch, tensors  # this frame must not keep a batch that the user drops
                if self._on_stats is not None and stats.elapsed_s - reported_s >= _REPORT_EVERY_S:
                    reported_s = stats.elapsed_s
                    self._on_stats(self.stats())
                if content[0] is not None:
                    yield content.pop()
                if workers.is_forked:
                    raise ConfigError(
                        "this process was forked during an iteration, whose threads are in the parent process: start a "
                        "new iteration in this process, with iter(loader)"
                    )
            iteration.end()
            _measure(stats, began, iteration)
            if self._on_stats is not None:
                self._on_stats(self.stats())
            _log.info("%s; %s", self.stats().summary(), stats.verdict())
        finally:
            try:
                _shut_down(deliveries, iteration, workers)
            except (KeyboardInterrupt, SystemExit):  # interrupted while shutting down, which must be completed
                _shut_down(deliveries, iteration, workers)
                raise

    def _prepare_device(self) -> None:
        """Raise an error unless this thread may use the device, and batches arrive on the device unchanged."""
        if self.device.type == "mps":
            claim("mps")
        if self.choice.engine != "cpu" and self._checked_device is None:
            device = TorchDevice(self.device)
            self.choice = with_check_result(self.choice, check_device(device, non_blocking=self.choice.non_blocking))
            self._checked_device = device

    def _verify(self, batch: HostBatch, delivered: object, number: int) -> None:
        if self._checked_device is not None and number < self.choice.verify:
            check_arrived(self._checked_device, batch, delivered, number=number)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration read this epoch from its start. See `ShardDataset.set_epoch`."""
        self._source.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that this loader delivered; batches that are made ahead do not count.

        Other loaders and iterations over the same data set do not change the state.
        """
        state = self._iteration.state_dict() if self._iteration is not None else None
        return self._source.state_dict() if state is None else state

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Let the next iteration continue after the batch of `state`. See `ShardDataset.load_state_dict`."""
        self._source.load_state_dict(state, strict=strict)

    def stats(self) -> LoaderStats:
        """Return a copy of the statistics so far of the current or last iteration."""
        workers = self._workers()
        filling, ready, in_flight = workers.levels() if workers is not None else (0, 0, 0)
        skips = self._begun.skips() if self._begun is not None else SkipReport()
        return replace(
            self._stats, filling=filling, ready=ready, in_flight=in_flight, skipped=skips.count, skips=skips.first
        )

    def explain(self) -> str:
        """Return a description of device, engine, copies and conversion with reasons, and of the native kernel.

        The start-up check adds its findings when the first iteration begins.
        """
        return f"{self.choice}; {native.advice()}"

    def __repr__(self) -> str:
        return f"DeviceLoader({self._source!r}, {self.choice}, num_threads={self._num_threads})"

    def close(self) -> None:
        """End every iteration that is still open, free idle memory, and close the files of the data set."""
        for running in self._running:
            if (batches := running()) is not None:
                batches.close()
        self._recycler.clear()
        self._source.close()

    def __getstate__(self) -> dict[str, Any]:
        # a copy starts without iterations, memory and results of the start-up check
        idle: dict[str, Any] = {
            "_workers": _no_workers,
            "_iteration": None,
            "_begun": None,
            "_running": [],
            "_checked_device": None,
        }
        return {**self.__dict__, **idle, "_recycler": self._recycler.empty_copy(), "_stats": LoaderStats()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _source_of(batches: Any, device: str, *, to_float: bool) -> ShardDataset | WrappedBatches:
    """Return the batch source for a user's argument.

    Raises:
        ConfigError: the argument does not yield batches.
    """
    if isinstance(batches, ShardDataset):
        if to_float:
            raise ConfigError(
                "to_float is for other iterables; the images of a ShardDataset are float32 already: leave to_float out"
            )
        return batches
    if isinstance(batches, torch.utils.data.Dataset) and not isinstance(batches, torch.utils.data.IterableDataset):
        raise ConfigError(
            f"a {type(batches).__name__} holds samples, but DeviceLoader takes batches: "
            "pass DataLoader(dataset, batch_size=...)"
        )
    if isinstance(batches, str | bytes | Mapping | torch.Tensor) or not hasattr(batches, "__iter__"):
        raise ConfigError(
            "DeviceLoader takes a ShardDataset, a torch DataLoader or another iterable of batches, "
            f"not {type(batches).__name__}"
        )
    return WrappedBatches(batches, device=device, to_float=to_float)


class _CountedInSamples(torch.utils.data.IterableDataset[Any]):
    """A `ShardDataset` as ``loader.dataset``, whose length is the number of samples of an epoch."""

    def __init__(self, data: ShardDataset):
        self._data = data

    def __len__(self) -> int:
        samples = self._data.num_samples
        if samples is None:
            raise TypeError("the number of samples of tars without a manifest is not known before the end of an epoch")
        return samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)

    def __getattr__(self, name: str) -> Any:
        if name == "_data":  # not set yet while unpickling
            raise AttributeError(name)
        return getattr(self._data, name)

    def __repr__(self) -> str:
        return repr(self._data)


def _no_workers() -> None:
    """Return None, as before the first iteration there are no workers."""


def _measure(stats: LoaderStats, began: float, iteration: Iteration[Any]) -> None:
    stats.elapsed_s = time.perf_counter() - began
    traffic = iteration.traffic()
    stats.requests, stats.bytes_fetched = traffic.requests, traffic.bytes
    stats.request_retries, stats.cache_hits, stats.waited_s = traffic.retries, traffic.hits, traffic.waited_s


def _shut_down(deliveries: Generator[Any, None, None], iteration: Iteration[Any], workers: Workers) -> None:
    with contextlib.ExitStack() as ending:
        ending.callback(workers.stop)
        ending.callback(iteration.cancel)  # before the threads are joined, because one may be waiting for a store
        ending.callback(deliveries.close)


def _check_at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not hasattr(value, "__index__") or value < least):
            raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}")
