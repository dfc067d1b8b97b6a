"""Batches without a data set: drafts of numbers that become tiny images, whose pixels show their number."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.host_buffers import HostBuffer
from mps_shards.batching.worker_threads import Workers
from mps_shards.device.engines import Engine
from mps_shards.device.engines.inline import InlineEngine
from mps_shards.device.transfer_queue import TransferQueue
from mps_shards.metrics import LoaderStats, StageTimes

SHAPE = (3, 4, 5)


def made(number: int) -> Sample:
    """Return a sample whose pixels and label follow from its number."""
    return Sample(torch.full(SHAPE, number % 256, dtype=torch.uint8), number, f"key-{number}")


class Delivery(NamedTuple):
    """A batch that arrived; `tensors` is None if all its samples were skipped."""

    tensors: Any
    keys: list[str]
    token: int


@dataclass(frozen=True)
class Draft:
    """Plan of a batch that is made from numbers."""

    items: list[int]
    token: int

    def __len__(self) -> int:
        return len(self.items)


class Feed:
    """The part of an iteration that `Workers` use."""

    def __init__(self, planned: Iterator[Draft], make: Callable[[Any], Sample | None]):
        self._planned, self._make = planned, make

    def plans(self) -> Generator[Draft, None, None]:
        yield from self._planned

    def sample_maker(self, times: StageTimes) -> Callable[[HostBatch, int, int], None]:
        def make(batch: HostBatch, first: int, last: int) -> None:
            for row, item in enumerate(batch.plan.items[first:last], first):  # type: ignore[attr-defined]
                sample = self._make(item)
                if sample is None:
                    batch.skip(row)
                else:
                    batch.put(row, sample)

        return make

    def new_batch(self, plan: Draft, allocate: Any, pixels: torch.dtype) -> HostBatch:
        return HostBatch(plan, allocate, pixels=pixels)


def drafts(batches: int, rows: int = 4, *, last_rows: int | None = None) -> list[Draft]:
    sizes = [rows] * batches
    if last_rows is not None:
        sizes[-1] = last_rows
    found, number = [], 0
    for step, size in enumerate(sizes):
        found.append(Draft(list(range(number, number + size)), step))
        number += size
    return found


def expected(draft: Draft) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.tensor(draft.items)
    pixels = (numbers % 256).to(torch.float32).div(255)
    return pixels.view(-1, 1, 1, 1).expand(-1, *SHAPE), numbers


def deliveries(
    engine: Engine,
    planned: list[Draft] | Iterator[Draft],
    *,
    make: Callable[[Any], Sample | None] = made,
    buffers: int = 5,
    num_threads: int = 2,
    max_bytes: int | None = None,
    stats: LoaderStats | None = None,
    on_workers: Callable[[Workers], None] = lambda workers: None,
    **transfer: Any,
) -> Iterator[Delivery]:
    """Deliver drafts through an engine, as DeviceLoader does."""
    workers = Workers(
        Feed(iter(planned), make),
        buffers=[HostBuffer(number, engine.allocate) for number in range(buffers)],
        pixels=engine.pixels,
        num_threads=num_threads,
        max_bytes=max_bytes,
        stats=stats or LoaderStats(),
    )
    on_workers(workers)
    source = TransferQueue(workers, engine, **transfer).deliveries()
    try:
        workers.start()
        while (arrived := next(source, None)) is not None:
            batch, tensors = arrived
            delivery = [Delivery(tensors, batch.keys, batch.plan.token)]  # type: ignore[attr-defined]  # it is a Draft
            del arrived, batch, tensors  # so that this frame keeps no batch that the caller has dropped
            yield delivery.pop()
    finally:
        try:
            source.close()
        finally:
            workers.stop()


def inline(device: Any, **options: Any) -> InlineEngine:
    """Return an inline engine with one batch ahead and non-blocking copies, unless `options` change that."""
    return InlineEngine(device, **{"device_batches": 1, "non_blocking": True, **options})
