"""Where an epoch's samples come from: shard sets with an index, any sample at once; or foreign tars, in sequence.

Both give the same steps for the same place: batches of (position, item), and where the cursor stands after each.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

from mps_shards.errors import ConfigError, StorageError
from mps_shards.read.deal import Deal, Remainder
from mps_shards.read.foreign import ForeignShards
from mps_shards.read.mix import MixedOrder, shares
from mps_shards.read.order import Order, Shuffle, order_of
from mps_shards.read.place import Place
from mps_shards.read.shardset import ShardSet, read_manifest
from mps_shards.shards.manifest import MANIFEST_NAME, Task
from mps_shards.shards.sample import RawSample
from mps_shards.storage.location import Location

__all__ = ["Request", "Source", "Step", "open_source"]

# Samples that foreign tars are shuffled among: a tenth of a second's reading, 110 MB at ImageNet's sizes.
FOREIGN_BUFFER = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which part of which epoch is wanted. `batch` is in samples a rank."""

    seed: int
    epoch: int
    start: int
    batch: int
    place: Place
    remainder: Remainder
    drop_last: bool

    def deal(self, samples: int | None) -> Deal:
        """The arithmetic of it; where the number of samples is not known, only `Deal.after` means anything."""
        return Deal(
            samples=1 << 62 if samples is None else samples,
            start=self.start,
            batch=self.batch,
            place=self.place,
            remainder=self.remainder,
            drop_last=self.drop_last,
        )


class Step(NamedTuple):
    """One batch to be made: positions, what `Source.fetch` takes for each, and the cursor's position after it."""

    positions: list[int]
    items: list[Any]
    after: int


class Source(Protocol):
    """Samples by position.

    Attributes:
        samples: of an epoch; None where that is not known before its end.
        task: what the targets are; None until the first sample was seen.
        ignore_index: mask value that is no class, if known.
        classes: names; a label is a place in this list. Empty where unknown.
        fingerprint: of the data and their order, but for the seed.
    """

    samples: int | None
    task: Task | None
    classes: tuple[str, ...]
    ignore_index: int | None
    fingerprint: dict[str, Any]

    def steps(self, request: Request) -> Iterator[Step]:
        """The batches of one place. To be pulled by one thread at a time."""
        ...

    def fetch(self, item: Any) -> RawSample:
        """The sample of an item. From any thread."""
        ...

    def close(self) -> None:
        """Close open files; the source can be used again."""
        ...


class IndexedSource:
    """One shard set, or several mixed by weight."""

    def __init__(self, sets: Sequence[ShardSet], weights: Sequence[float] | None, shuffle: Shuffle | None):
        first = sets[0]
        for other in sets[1:]:
            if (other.manifest.task, other.manifest.classes) != (first.manifest.task, first.manifest.classes):
                raise ConfigError(
                    f"{first.folder} and {other.folder} cannot be mixed: their tasks or class names differ "
                    f"({first.manifest.task}, {len(first.manifest.classes)} classes; "
                    f"{other.manifest.task}, {len(other.manifest.classes)} classes)"
                )
        self._sets, self._weights, self._shuffle = sets, weights, shuffle
        self._starts = [0, *accumulate(len(one) for one in sets)]
        self.samples: int | None = self._starts[-1]
        self.task: Task | None = first.manifest.task
        self.classes = first.manifest.classes
        self.ignore_index = first.manifest.ignore_index
        shares([len(one) for one in sets], weights)  # raises early where the weights cannot work
        self.fingerprint: dict[str, Any] = {
            "set": first.fingerprint if len(sets) == 1 else _digest(one.fingerprint for one in sets)
        }
        if weights is not None:
            listed = [float(weight) for weight in weights]
            # a cursor stays small; few weights are named, so that a mismatch can say which differ
            self.fingerprint["weights"] = listed if len(listed) <= 16 else _digest(map(repr, listed))

    def steps(self, request: Request) -> Iterator[Step]:
        """See `Source`. Seeks by arithmetic: starting late costs no more than starting early."""
        deal = request.deal(self.samples)
        order = self._order(request.seed, request.epoch)
        for step in deal:
            positions = deal.positions(step)
            yield Step(positions.tolist(), order.at(positions).tolist(), deal.after(step))

    def fetch(self, item: int) -> RawSample:
        """See `Source`. One ranged read."""
        at = bisect_right(self._starts, item) - 1
        return self._sets[at].read(item - self._starts[at])

    def close(self) -> None:
        """See `Source`."""
        for one in self._sets:
            one.close()

    def _order(self, seed: int, epoch: int) -> Order | MixedOrder:
        counts = [one.counts for one in self._sets]
        if len(counts) == 1:
            return order_of(counts[0], self._shuffle, seed=seed, epoch=epoch)
        return MixedOrder(counts, self._weights, self._shuffle, seed=seed, epoch=epoch)


class ForeignSource:
    """Tars without a manifest."""

    def __init__(self, locations: Sequence[Location], shuffle: Shuffle | None):
        self._shards = ForeignShards(locations, buffer=FOREIGN_BUFFER if shuffle else 0)
        self.samples: int | None = None
        self.task: Task | None = None
        self.classes: tuple[str, ...] = ()
        self.ignore_index: int | None = None
        self.fingerprint: dict[str, Any] = {"set": self._shards.fingerprint}

    def steps(self, request: Request) -> Iterator[Step]:
        """See `Source`. Reads from the epoch's start, passing over what comes before `request.start`."""
        place, number = request.place, 0
        positions: list[int] = []
        items: list[RawSample] = []
        share = self._shards.share(
            place, seed=request.seed, epoch=request.epoch, start=request.start, remainder=request.remainder
        )
        for position, sample in share:
            self.task = self.task or _task_of(sample)
            positions.append(position)
            items.append(sample)
            if len(items) == request.batch:
                if number % place.workers == place.worker:
                    yield Step(positions, items, request.start + (number + 1) * request.batch * place.world)
                positions, items = [], []
                number += 1
        if items and not request.drop_last and number % place.workers == place.worker:
            # as after a full batch: with "keep" another rank may have more of them
            yield Step(positions, items, request.start + (number + 1) * request.batch * place.world)

    def fetch(self, item: RawSample) -> RawSample:
        """See `Source`. It was read already."""
        return item

    def close(self) -> None:
        """See `Source`. Nothing stays open."""


def open_source(locations: Sequence[Location], *, weights: Sequence[float] | None, shuffle: Shuffle | None) -> Source:
    """Open what was located: as shard sets where manifests are, else as foreign tars.

    Raises:
        ConfigError: both kinds together, or weights for foreign tars.
        ManifestError: a manifest is malformed, or a folder holds neither a manifest nor tars.
    """
    indexed = [_has_manifest(location) for location in locations]
    if all(indexed):
        return IndexedSource([ShardSet(location) for location in locations], weights, shuffle)
    if any(indexed):
        odd = locations[indexed.index(False)]
        raise ConfigError(f"{odd.folder} has no {MANIFEST_NAME}, the other sets have: they cannot be read together")
    if weights is not None:
        raise ConfigError(f"weights need shard sets with a {MANIFEST_NAME}, {locations[0].folder} has none")
    return ForeignSource(locations, shuffle)


def _has_manifest(location: Location) -> bool:
    if (location.folder / MANIFEST_NAME).exists():
        listed = {shard.name for shard in read_manifest(location.folder).shards}
        return location.names is None or listed.issuperset(location.names)
    if location.names is None:
        found = [path.name for path in location.folder.iterdir()]
        unfinished = [name for name in found if name.endswith(".part")]
        if unfinished:
            raise StorageError(f"{location.folder} holds an unfinished pack ({unfinished[0]}); pack again")
        if not any(name.endswith((".tar", ".tar.gz", ".tgz")) for name in found):
            read_manifest(location.folder)  # raises, and names the sets that are below
    return False


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _task_of(sample: RawSample) -> Task:
    if "mask.png" in sample.fields:
        return "segmentation"
    return "classification" if "cls" in sample.fields else "unlabeled"
