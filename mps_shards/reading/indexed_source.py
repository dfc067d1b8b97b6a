"""Source of samples from shard sets with an index: their order is known in advance, and any sample can be read."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import accumulate, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ManifestError
from mps_shards.reading.batch_plan import BatchPlan, SampleName, Spans
from mps_shards.reading.sample_sources import Damaged, Request, refused
from mps_shards.reading.selection import Selection
from mps_shards.sampling.order import Numbers
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import RawSample
from mps_shards.storage.folder import Traffic

__all__ = ["IndexedPlan", "IndexedSource", "Planned"]

_PLANNED = 1024  # samples whose batches are planned together, or one larger batch


class _Located(NamedTuple):
    """Places of samples.

    Attributes:
        shards: number of the shard of each sample, counted through all sets.
        spans: spans of the samples, without descriptors.
    """

    shards: list[int]
    spans: Spans


class Planned:
    """The samples of several consecutive batches. Planning them together takes a fraction of the time.

    Attributes:
        positions: int64 [samples], positions in the epoch's sequence.
        numbers: int64 [samples], numbers of the samples over all sets.
    """

    def __init__(self, source: "IndexedSource", positions: Numbers, numbers: Numbers):
        self._source, self.positions, self.numbers = source, positions, numbers
        self._located: tuple[_Located | None] | None = None  # not a cached_property, whose lock a fork may leave locked

    @property
    def located(self) -> _Located | None:
        """Places of the samples; None if a set must be read in another way, or an index row is invalid."""
        if self._located is None:  # several threads may find the same places at the same time
            self._located = (self._source.located(self.positions, self.numbers),)
        return self._located[0]


class IndexedPlan:
    """A `BatchPlan` whose samples are read by their numbers in the source.

    Args:
        planned: samples of this batch and others.
        first, stop: the samples of this batch among them.
    """

    __slots__ = ("_first", "_planned", "_source", "next_position", "positions")

    def __init__(self, source: "IndexedSource", planned: Planned, first: int, stop: int, next_position: int):
        self._source, self._planned, self._first = source, planned, first
        self.positions: list[int] = planned.positions[first:stop].tolist()
        self.next_position = next_position

    @property
    def task(self) -> Task | None:
        """Kind of the targets of the samples, the same for the whole source."""
        return self._source.task

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, row: int) -> RawSample:
        """Return the sample of a row, by one ranged read."""
        return self._source.read(self._number(row))

    def opened(self, first: int, last: int) -> AbstractContextManager[Spans | None]:
        located = self._planned.located
        if located is None:
            return nullcontext()
        rows = slice(self._first + first, self._first + last)
        return _OpenedSpans(self._source.opened(located.shards[rows]), located.spans[rows])

    def name(self, row: int) -> SampleName:
        """Return the name of a row's sample for messages, without its key."""
        return self._source.name(self._number(row))

    def _number(self, row: int) -> int:
        return int(self._planned.numbers[self._first + row])


class _OpenedSpans:
    """Result of `IndexedPlan.opened`: a class, because it is used for every few samples, and a generator is slower."""

    __slots__ = ("_opened", "_spans")

    def __init__(self, opened: AbstractContextManager[list[int] | None], spans: Spans):
        self._opened, self._spans = opened, spans

    def __enter__(self) -> Spans | None:
        descriptors = self._opened.__enter__()
        if descriptors is None:
            return None
        spans = self._spans.copy()
        spans[:, 0] = descriptors
        return spans

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)


class IndexedSource:
    """Source that reads a shard set, several shard sets mixed by weight, or a subset of their samples.

    Attributes:
        sets: the shard sets. Sample numbers count through all sets, one set after the other.
    """

    def __init__(self, selection: Selection):
        self._selection = selection
        self.sets = sets = selection.sets
        first = sets[0]
        self._starts = [0, *accumulate(len(one) for one in sets)]
        self._first_shards = [0, *accumulate(len(one.shards) for one in sets)]
        self.task: Task | None = first.task
        self.classes = first.classes
        self.ignore_index = first.manifest.ignore_index
        self.columns = first.manifest.column_names
        self.fingerprint: dict[str, Any] = {
            "set": first.fingerprint if len(sets) == 1 else _digest(one.fingerprint for one in sets)
        }
        if selection.weights is not None:
            listed = [float(weight) for weight in selection.weights]
            # up to 16 weights are listed, so that a mismatch can name them; more would make cursors large
            self.fingerprint["weights"] = listed if len(listed) <= 16 else _digest(map(repr, listed))
        self.samples: int | None = selection.samples
        self.fingerprint |= selection.fingerprint()

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """Yield the plans of the batches of a request. Resuming late in an epoch is as fast as early in it."""
        for batch in self._batches(request):
            yield IndexedPlan(self, *batch)

    def _batches(self, request: Request) -> Iterator[tuple[Planned, int, int, int]]:
        """Yield for each batch of a request the arguments of `IndexedPlan`. The first batch is planned alone."""
        deal = request.deal(self.samples)
        order = self._selection.order(seed=request.seed, epoch=request.epoch)
        steps, count = iter(deal), 1
        while chosen := list(islice(steps, count)):
            parts = [deal.positions(step) for step in chosen]
            positions = np.concatenate(parts)
            planned = Planned(self, positions, order.at(positions))
            stops = list(accumulate(map(len, parts)))
            for step, first, stop in zip(chosen, [0, *stops], stops, strict=False):
                yield planned, first, stop, deal.after(step)
            count = max(1, min(2 * count, _PLANNED // request.batch_size))

    def read(self, number: int) -> RawSample:
        """Return a sample by its number over all sets, by one ranged read."""
        at = bisect_right(self._starts, number) - 1
        return self.sets[at].read(number - self._starts[at])

    def located(self, positions: Numbers, numbers: Numbers) -> _Located | None:
        """Return the places of some samples; None if a set must be read in another way, or an index row is invalid."""
        spans = np.empty((len(numbers), 4), np.int64)
        spans[:, 3] = positions
        for one, first, stop, first_shard in zip(
            self.sets, self._starts, self._starts[1:], self._first_shards, strict=False
        ):
            inside = (numbers >= first) & (numbers < stop)
            if not inside.any():
                continue
            if not one.is_plain:
                return None
            try:
                at, _, starts, stops = one.spans(numbers[inside] - first)
            except ManifestError:
                return None
            spans[inside, :3] = np.stack((at + first_shard, starts, stops - starts), 1)
        return _Located(spans[:, 0].tolist(), spans)

    def opened(self, shards: list[int]) -> AbstractContextManager[list[int] | None]:
        """Keep shards open in the block; the result is the descriptor of each, or None if one cannot be opened."""
        return self.sets[0].opened(shards) if len(self.sets) == 1 else self._opened(shards)

    @contextmanager
    def _opened(self, shards: list[int]) -> Iterator[list[int] | None]:
        descriptors: dict[int, int] = {}
        with ExitStack() as stack:
            for one, first in zip(self.sets, self._first_shards, strict=False):
                wanted = [shard for shard in shards if first <= shard < first + len(one.shards)]
                found = stack.enter_context(one.opened([shard - first for shard in wanted])) if wanted else ()
                descriptors.update(zip(wanted, found or (), strict=False))
            yield [descriptors[shard] for shard in shards] if len(descriptors) == len(shards) else None

    def read_runs(self, numbers: Sequence[int], *, max_bytes: int) -> dict[int, RawSample]:
        """Read samples that are in object stores, with one request for each run of adjacent samples.

        Args:
            numbers: sample numbers over all sets, ascending; those of local sets are left out.
            max_bytes: limit for the bytes of a request.

        Returns:
            The samples read, by number.
        """
        found: dict[int, RawSample] = {}
        for owner, one in enumerate(self.sets):
            first = self._starts[owner]
            inside = np.array([number - first for number in numbers if first <= number < self._starts[owner + 1]])
            if one.remote and len(inside):
                found |= {first + number: raw for number, raw in one.read_runs(inside, max_bytes=max_bytes)}
        return found

    @property
    def total(self) -> int:
        """Number of samples of all sets, regardless of the subset."""
        return self._starts[-1]

    def chosen(self) -> npt.NDArray[np.integer]:
        """Return the sample numbers of the subset, over all sets."""
        return self._selection.numbers()

    def key(self, number: int) -> str:
        """Return the key of a sample, by a small read."""
        at = bisect_right(self._starts, number) - 1
        return self.sets[at].key(number - self._starts[at])

    def labels(self) -> npt.NDArray[np.int32]:
        """Return the class index of every sample, -1 for none. Raises ConfigError if the task has no classes."""
        labels = [one.labels() for one in self.sets]
        return labels[0] if len(labels) == 1 else np.concatenate(labels)

    def name(self, number: int) -> SampleName:
        """Return the name of a sample for messages."""
        at = bisect_right(self._starts, number) - 1
        return SampleName(self.sets[at].shard_of(number - self._starts[at]), None)

    def stop(self, request: Request) -> None:
        """Do nothing, because reads from a local disk are not interrupted."""

    def traffic(self) -> Traffic:
        """Return the counts of this process's requests to object stores so far."""
        return Traffic.sum([one.traffic() for one in self.sets])

    def close(self) -> None:
        """Close all shard sets."""
        for one in self.sets:
            one.close()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
