"""The source of shard sets in stores, whose blocks are fetched before their samples are needed.

A request fetches all samples of a unit that an epoch still needs: 64 adjacent samples of a shard (the block of
`Shuffle`), or 8 MiB of smaller samples. The samples stay in memory in one piece, or copied one by one if memory is
short, until they are taken; samples that are being decoded may keep the bytes of their request for that time.

A shuffled reader needs memory for a window of samples, and each of R ranks for an R-th of a window. With 16,384 samples
of ImageNet's 110 KB, 2 GiB allow 51 samples per request, 1.5 GiB 30, and 1 GiB 7; with `Shuffle(window=4096)` 0.5 GiB
allow 36. If the number of ranks or DataLoader workers does not divide the lanes, or the order is that of packing, each
reads only its own samples, by smaller requests.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.reading.indexed_source import IndexedPlan, IndexedSource
from mps_shards.reading.sample_sources import Damaged, Request, refused
from mps_shards.reading.selection import Selection
from mps_shards.sampling.order import Numbers, Shuffle
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.folder import Stop, Traffic
from mps_shards.storage.read_ahead import REQUEST_BYTES, Piece, ReadAhead

__all__ = ["RemoteSource"]

_LONGEST_WINDOW = 1 << 16
_HURRIED = 64  # samples, or two larger batches, that are fetched before their turn where memory is short


class _Ahead(NamedTuple):
    """A sample that is fetched ahead: its ticket, its set and its number in the set."""

    ticket: int
    at: int
    number: int


class _AheadPlan(IndexedPlan):
    """A `BatchPlan` whose samples of stores are fetched ahead, by row; those of local disks are read by number."""

    __slots__ = ("_ahead", "_fetched")

    def __init__(
        self,
        source: "RemoteSource",
        positions: list[int],
        numbers: list[int],
        next_position: int,
        *,
        ahead: ReadAhead,
        fetched: dict[int, _Ahead],
    ):
        super().__init__(source, positions, numbers, next_position)
        self._ahead, self._fetched = ahead, fetched

    def read(self, row: int) -> RawSample:
        """See `BatchPlan`. Waits for a sample that has not arrived yet."""
        sample = self._fetched.get(row)
        if sample is None:
            return super().read(row)
        return self._source.sets[sample.at].parse(sample.number, self._ahead.take(sample.ticket))


class RemoteSource(IndexedSource):
    """Shard sets of which at least one is in a store.

    Args:
        max_bytes: Limit for the bytes of samples in memory or in flight, for each iteration.
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
        """Yield the plans of batches. A unit is fetched when it is needed within a window."""
        window = -(-self._window // (request.share.world_size * request.share.num_workers))
        coming = self._batches(request)
        planned: deque[_AheadPlan] = deque()
        first = ticket = 0  # tickets of the next batch, and of the next planned sample
        span, ended = 1, False  # the first batch is planned alone, so that it arrives soon
        try:
            while True:
                pieces: list[Piece] = []
                while not ended and ticket < first + span:
                    batch = next(coming, None)
                    if batch is None:
                        ended = True
                    else:
                        planned.append(self._plan(*batch, ahead, ticket, pieces))
                        ticket += len(planned[-1])
                ahead.plan(pieces, known=ticket if ended or span == 1 else ticket - 2 * window)
                ahead.prioritise(range(first, first + max(_HURRIED, 2 * request.batch_size)))
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
        self,
        positions: list[int],
        listed: list[int],
        next_position: int,
        ahead: ReadAhead,
        ticket: int,
        pieces: list[Piece],
    ) -> _AheadPlan:
        """Return the plan of a batch whose samples have these numbers; adds the pieces to read to `pieces`."""
        fetched: dict[int, _Ahead] = {}
        here: list[Piece] = []
        numbers = np.asarray(listed, dtype=np.int64)
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
        return _AheadPlan(self, positions, listed, next_position, ahead=ahead, fetched=fetched)

    def _read(self, file: tuple[int, ...], start: int, stop: int, stopped: Stop) -> Buffer:
        at, shard = file
        return self.sets[at].read_span(shard, start, stop, stopped)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_running": {}}


class _Units:
    """Units of samples that are fetched together: a block of the order, or adjacent samples if they are small."""

    def __init__(self, one: ShardSet, block: int):
        self._set = one
        mean = max(1, one.manifest.bytes // max(1, one.manifest.samples))
        self._rows = max(1, REQUEST_BYTES // (mean * block)) * block
        self._first = np.cumsum([0, *(-(-count // self._rows) for count in one.counts)])

    def of(self, numbers: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return shards, units, first bytes and end bytes of the samples of these numbers."""
        shards, inside, starts, stops = self._set.spans(numbers)
        return shards, self._first[shards] + inside // self._rows, starts, stops
