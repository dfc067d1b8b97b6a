"""Source of samples from shard sets in object stores, which fetches blocks before their samples are needed.

One request fetches all samples of a unit that an epoch still needs: 64 adjacent samples of a shard (the block of
`Shuffle`), or 8 MiB of smaller samples. The bytes stay in memory in one piece until the samples are taken; if memory is
short, samples are copied one by one. Samples that are being decoded may keep the bytes of their request.

A shuffled reader needs memory for a window of samples, and each of R ranks for 1/R of a window. With 16,384 samples of
ImageNet's 110 KB, a request has 51 samples with 2 GiB of memory, 30 with 1.5 GiB, and 7 with 1 GiB; with
`Shuffle(window=4096)` it has 36 with 0.5 GiB. If the lanes cannot be divided by the number of ranks or DataLoader
workers, or the order is that of packing, each process reads only its own samples, by smaller requests.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.reading.indexed_source import IndexedPlan, IndexedSource, Planned
from mps_shards.reading.sample_sources import Damaged, Request, refused
from mps_shards.reading.selection import Selection
from mps_shards.sampling.order import Numbers, Shuffle
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.folder import Stop, Traffic
from mps_shards.storage.read_ahead import REQUEST_BYTES, Piece, ReadAhead

__all__ = ["RemoteSource"]

_LONGEST_WINDOW = 1 << 16  # most samples that are planned in advance
_URGENT = 64  # number of next samples (or two larger batches) that are fetched first if memory is short


class _Ahead(NamedTuple):
    """A sample that is fetched in advance.

    Attributes:
        ticket: number of the sample in the order in which the iteration needs samples.
        at: index of its shard set.
        number: number of the sample in the set.
    """

    ticket: int
    at: int
    number: int


class _AheadPlan(IndexedPlan):
    """A `BatchPlan` whose samples in object stores are fetched in advance; samples on local disks are read by number.

    Args:
        ahead: reader that fetches samples in advance.
        fetched: samples that are fetched in advance, by row.
    """

    __slots__ = ("_ahead", "_fetched")

    def __init__(
        self,
        source: "RemoteSource",
        planned: Planned,
        first: int,
        stop: int,
        next_position: int,
        *,
        ahead: ReadAhead,
        fetched: dict[int, _Ahead],
    ):
        super().__init__(source, planned, first, stop, next_position)
        self._ahead, self._fetched = ahead, fetched

    def read(self, row: int) -> RawSample:
        """Return the sample of a row; waits until it has arrived."""
        sample = self._fetched.get(row)
        if sample is None:
            return super().read(row)
        return self._source.sets[sample.at].parse(sample.number, self._ahead.take(sample.ticket))

    @contextmanager
    def opened(self, first: int, last: int) -> Iterator[None]:
        """Yield None, because the samples of stores are in memory."""
        yield None


class RemoteSource(IndexedSource):
    """Source that reads shard sets, of which at least one is in an object store.

    Args:
        selection: samples of each epoch.
        max_bytes: limit for the bytes of samples in memory or in flight, for each iteration.
    """

    def __init__(self, selection: Selection, *, max_bytes: int):
        super().__init__(selection)
        self._max_bytes = max_bytes
        shuffle = selection.shuffle or Shuffle()
        self._window = min(shuffle.window * len(self.sets), _LONGEST_WINDOW)
        self._units = [_Units(one, shuffle.block) for one in self.sets]
        self._waited = Traffic()
        self._running: dict[int, ReadAhead] = {}

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        self._running = {key: ahead for key, ahead in self._running.items() if not ahead.closed}
        ahead = ReadAhead(self._read, max_bytes=self._max_bytes, traffic=self._waited)
        self._running[id(request)] = ahead
        return self._planned(request, ahead)

    def stop(self, request: Request) -> None:
        ahead = self._running.pop(id(request), None)
        if ahead is not None:
            ahead.close()

    def traffic(self) -> Traffic:
        return Traffic.sum([super().traffic(), self._waited])

    def close(self) -> None:
        for ahead in list(self._running.values()):
            ahead.close()
        self._running = {}
        super().close()

    def _planned(self, request: Request, ahead: ReadAhead) -> Iterator[BatchPlan]:
        """Yield the plans of batches. A unit is fetched once one of its samples is needed within a window."""
        window = -(-self._window // (request.share.world_size * request.share.num_workers))
        coming = self._batches(request)
        planned: deque[_AheadPlan] = deque()
        first = ticket = 0  # ticket of the first sample of the next batch, and of the next sample to plan
        span, ended = 1, False  # the first batch is planned alone, so that it arrives early
        try:
            while True:
                pieces: list[Piece] = []
                while not ended and ticket < first + span:
                    batch = next(coming, None)
                    if batch is None:
                        ended = True
                    else:
                        planned.append(self._plan(batch, ahead, ticket, pieces))
                        ticket += len(planned[-1])
                ahead.plan(pieces, known=ticket if ended or span == 1 else ticket - 2 * window)
                ahead.prioritise(range(first, first + max(_URGENT, 2 * request.batch_size)))
                if not planned:
                    break
                plan = planned.popleft()
                first += len(plan)
                span = 3 * window + request.batch_size
                yield plan
            ahead.finish()
        except BaseException:
            ahead.close()
            raise

    def _plan(
        self, batch: tuple[Planned, int, int, int], ahead: ReadAhead, ticket: int, pieces: list[Piece]
    ) -> _AheadPlan:
        """Return the plan of a batch, and append the byte ranges to fetch to `pieces`.

        Args:
            batch: arguments of `IndexedPlan`.
            ahead: reader that fetches the samples.
            ticket: ticket of the first sample.
            pieces: list to which the byte ranges of samples in object stores are appended.
        """
        fetched: dict[int, _Ahead] = {}
        here: list[Piece] = []
        planned, first, stop, _ = batch
        numbers = planned.numbers[first:stop]
        owners = np.searchsorted(self._starts, numbers, side="right") - 1
        for at in set(owners.tolist()):
            one = self.sets[at]
            if not one.remote:
                continue
            rows = np.flatnonzero(owners == at)
            inside = numbers[rows] - self._starts[at]
            shards, units, starts, stops = self._units[at].of(inside)
            found = (rows, inside, shards, units, starts, stops)
            for row, number, shard, unit, start, stop in zip(*(each.tolist() for each in found), strict=True):
                fetched[row] = _Ahead(ticket + row, at, number)
                here.append(Piece(ticket + row, (at, unit), (at, shard), start, stop))
        pieces += sorted(here)
        return _AheadPlan(self, *batch, ahead=ahead, fetched=fetched)

    def _read(self, file: tuple[int, ...], start: int, stop: int, stopped: Stop) -> Buffer:
        at, shard = file
        return self.sets[at].read_span(shard, start, stop, stopped)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_running": {}}


class _Units:
    """Units of samples that one request fetches: a block of the order, or several blocks if samples are small."""

    def __init__(self, one: ShardSet, block: int):
        self._set = one
        mean = max(1, one.manifest.bytes // max(1, one.manifest.samples))
        self._rows = max(1, REQUEST_BYTES // (mean * block)) * block
        self._first = np.cumsum([0, *(-(-count // self._rows) for count in one.counts)])

    def of(self, numbers: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return the shards, the units, and the first and end bytes of the samples with these numbers."""
        shards, inside, starts, stops = self._set.spans(numbers)
        return shards, self._first[shards] + inside // self._rows, starts, stops
