"""Where an epoch's samples come from: shard sets with an index, any sample at once; or foreign tars, in sequence.

Both give the same plans for the same place: batches of positions, and where the cursor stands after each.
"""

import hashlib
import logging
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from mps_shards.errors import ConfigError, DecodeError, ShardError
from mps_shards.reading.batch_plan import BatchPlan, SampleName
from mps_shards.reading.foreign_shards import Damaged, ForeignShards, Item, Repeated, refused
from mps_shards.sampling.mixing import MixedOrder, shares
from mps_shards.sampling.order import Order, Shuffle, order_of
from mps_shards.sampling.rank import Place
from mps_shards.sampling.rank_sharding import Deal, Remainder
from mps_shards.shards.field_choice import NO_TARGET, FieldChoice, is_mask
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, Task
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shardset.opening import find_manifest, read_manifest
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.backend import Traffic
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.location import Location
from mps_shards.storage.remote_folder import RemoteFolder
from mps_shards.storage.urls import Prefix

__all__ = ["REMOTE_BYTES", "Request", "Source", "expanded", "open_source"]

# Samples that foreign tars are shuffled among: a tenth of a second's reading, 110 MB at ImageNet's sizes.
FOREIGN_BUFFER = 1000

# Samples of a store that wait in memory, in each process: a whole default window of ImageNet's 110 KB.
REMOTE_BYTES = 2 << 30

_log = logging.getLogger("mps_shards")


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

    def steps(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """The batches of one place. To be pulled by one thread at a time.

        Args:
            damaged: decides whether to go on after the rest of a foreign shard was found damaged.
        """
        ...

    def stop(self, request: Request) -> None:
        """Wake every thread that waits to read a sample of this very request, whose plans are of no use any more."""
        ...

    def traffic(self) -> Traffic:
        """What was asked of stores so far, by this process."""
        ...

    def close(self) -> None:
        """Close open files; the source can be used again."""
        ...


class IndexedPlan:
    """A `BatchPlan` of samples that are read by number."""

    __slots__ = ("_numbers", "_source", "next_position", "positions")

    def __init__(self, source: "IndexedSource", positions: list[int], numbers: list[int], next_position: int):
        self._source, self._numbers = source, numbers
        self.positions, self.next_position = positions, next_position

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, row: int) -> RawSample:
        """See `BatchPlan`. One ranged read."""
        return self._source.read(self._numbers[row])

    def name(self, row: int) -> SampleName:
        """See `BatchPlan`."""
        return self._source.name(self._numbers[row])


class IndexedSource:
    """One shard set, or several mixed by weight.

    Attributes:
        sets: the shard sets, whose samples are numbered one set after the other.
    """

    def __init__(self, sets: Sequence[ShardSet], weights: Sequence[float] | None, shuffle: Shuffle | None):
        first = sets[0]
        for other in sets[1:]:
            if (other.task, other.classes) != (first.task, first.classes):
                raise ConfigError(
                    f"{first.folder} and {other.folder} cannot be mixed: their tasks or class names differ "
                    f"({first.task}, {len(first.classes)} classes; {other.task}, {len(other.classes)} classes)"
                )
        self.sets, self._weights, self._shuffle = sets, weights, shuffle
        self._starts = [0, *accumulate(len(one) for one in sets)]
        self.samples: int | None = self._starts[-1]
        self.task: Task | None = first.task
        self.classes = first.classes
        self.ignore_index = first.manifest.ignore_index
        shares([len(one) for one in sets], weights)  # raises early where the weights cannot work
        self.fingerprint: dict[str, Any] = {
            "set": first.fingerprint if len(sets) == 1 else _digest(one.fingerprint for one in sets)
        }
        if weights is not None:
            listed = [float(weight) for weight in weights]
            # a cursor stays small; few weights are named, so that a mismatch can say which differ
            self.fingerprint["weights"] = listed if len(listed) <= 16 else _digest(map(repr, listed))

    def steps(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """See `Source`. Seeks by arithmetic: starting late costs no more than starting early."""
        for positions, numbers, next_position in self._batches(request):
            yield IndexedPlan(self, positions, numbers, next_position)

    def _batches(self, request: Request) -> Iterator[tuple[list[int], list[int], int]]:
        """Positions, sample numbers, and the position after each batch of a request."""
        deal = request.deal(self.samples)
        order = self._order(request.seed, request.epoch)
        for step in deal:
            positions = deal.positions(step)
            yield positions.tolist(), order.at(positions).tolist(), deal.after(step)

    def read(self, number: int) -> RawSample:
        """A sample by its number over all sets. One ranged read."""
        at = bisect_right(self._starts, number) - 1
        return self.sets[at].read(number - self._starts[at])

    def name(self, number: int) -> SampleName:
        """What messages call a sample."""
        at = bisect_right(self._starts, number) - 1
        return SampleName(self.sets[at].shard_of(number - self._starts[at]), None)

    def stop(self, request: Request) -> None:
        """See `Source`. A disk is never waited for."""

    def traffic(self) -> Traffic:
        """See `Source`."""
        return Traffic.sum(one.store.traffic for one in self.sets if one.store is not None)

    def close(self) -> None:
        """See `Source`."""
        for one in self.sets:
            one.close()

    def _order(self, seed: int, epoch: int) -> Order | MixedOrder:
        counts = [one.counts for one in self.sets]
        if len(counts) == 1:
            return order_of(counts[0], self._shuffle, seed=seed, epoch=epoch)
        return MixedOrder(counts, self._weights, self._shuffle, seed=seed, epoch=epoch)


class ForeignPlan:
    """A `BatchPlan` of samples that were read with their tar already."""

    __slots__ = ("_choice", "_samples", "next_position", "positions")

    def __init__(self, choice: FieldChoice, positions: list[int], samples: list[Item], next_position: int):
        self._choice, self._samples = choice, samples
        self.positions, self.next_position = positions, next_position

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, row: int) -> RawSample:
        """See `BatchPlan`. Nothing is read any more."""
        sample = self._samples[row]
        if isinstance(sample, Repeated):
            raise ShardError(str(sample))
        return self._choice.plain(sample)

    def name(self, row: int) -> SampleName:
        """See `BatchPlan`."""
        sample = self._samples[row]
        return SampleName(sample.shard, sample.key)


class ForeignSource:
    """Tars without a manifest.

    Args:
        choice: of the fields to take for image and target; what it leaves open is guessed from the first sample.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        shuffle: Shuffle | None,
        cache: Cache | None = None,
        choice: FieldChoice | None = None,
    ):
        self._shards = ForeignShards(locations, buffer=FOREIGN_BUFFER if shuffle else 0, cache=cache)
        self._choice = choice or FieldChoice()
        self.samples: int | None = None
        self.task: Task | None = self._choice.task
        self.classes: tuple[str, ...] = ()
        self.ignore_index: int | None = None
        self.fingerprint: dict[str, Any] = {"set": self._shards.fingerprint}
        self._told = False

    def steps(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """See `Source`. Reads from the epoch's start, passing over what comes before `request.start`."""
        place, number, first = request.place, 0, True
        positions: list[int] = []
        samples: list[Item] = []
        share = self._shards.share(
            place,
            seed=request.seed,
            epoch=request.epoch,
            start=request.start,
            remainder=request.remainder,
            damaged=damaged,
        )
        for position, sample in share:
            if first and isinstance(sample, RawSample):
                first = not self._guess(sample)
            positions.append(position)
            samples.append(sample)
            if len(samples) == request.batch:
                if number % place.workers == place.worker:
                    next_position = request.start + (number + 1) * request.batch * place.world
                    yield ForeignPlan(self._choice, positions, samples, next_position)
                positions, samples = [], []
                number += 1
        if samples and not request.drop_last and number % place.workers == place.worker:
            # as after a full batch: with "keep" another rank may have more of them
            next_position = request.start + (number + 1) * request.batch * place.world
            yield ForeignPlan(self._choice, positions, samples, next_position)

    def _guess(self, sample: RawSample) -> bool:
        """Settle what the targets are, and say what is taken for what; False where the sample leaves it in doubt."""
        try:
            image, target = self._choice.image_field(sample), self._choice.target_field(sample)
        except DecodeError:  # the plan raises it when this very sample is read
            return False
        if self.task is None:
            self.task = "unlabeled" if target is None else "segmentation" if is_mask(target) else "classification"
        if not self._told:
            unused = sorted(sample.fields.keys() - {image, (target or "").partition(":")[0]})
            aside = f"; not used: {', '.join(unused)}" if unused else ""
            # labels that nobody asked for are seldom missed, but those that were overlooked are
            level = logging.WARNING if target is None and unused and not self._choice.target else logging.INFO
            _log.log(level, "taken for %s: image %s, target %s%s", self.task, image, target or NO_TARGET, aside)
            self._told = True
        return True

    def stop(self, request: Request) -> None:
        """See `Source`. Nobody waits to read a sample."""

    def traffic(self) -> Traffic:
        """See `Source`."""
        return self._shards.traffic()

    def close(self) -> None:
        """See `Source`. Nothing stays open."""


def expanded(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """What was named, with brace patterns as webdataset expands them."""
    from webdataset.shardlists import expand_urls

    named = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    found: list[str | os.PathLike[str]] = []
    for item in named:
        found += expand_urls(item) if isinstance(item, str) and "{" in item else [item]
    return found


def open_source(
    locations: Sequence[Location],
    *,
    weights: Sequence[float] | None,
    shuffle: Shuffle | None,
    verify: bool = False,
    remote_bytes: int = REMOTE_BYTES,
    cache: Cache | None = None,
    choice: FieldChoice | None = None,
) -> Source:
    """Open what was located: as shard sets where manifests are, else as foreign tars.

    Args:
        verify: compare every sample that is read with the index's CRC-32.
        remote_bytes: of samples that are read ahead from stores, at most.
        cache: where whole files are kept.
        choice: of the fields to take for image and target.

    Raises:
        ConfigError: both kinds together, or weights or `verify` for foreign tars.
        ManifestError: a manifest is malformed, or a folder holds neither a manifest nor tars.
    """
    manifests = [_manifest_of(location) for location in locations]
    if all(manifests):
        sets = [
            ShardSet(location, verify=verify, cache=cache, choice=choice, manifest=manifest)
            for location, manifest in zip(locations, manifests, strict=True)
        ]
        if any(one.remote for one in sets):
            from mps_shards.reading.remote_source import AheadSource

            return AheadSource(sets, weights, shuffle, max_bytes=remote_bytes)
        return IndexedSource(sets, weights, shuffle)
    if any(manifests):
        odd = locations[manifests.index(None)]
        raise ConfigError(f"{odd.folder} has no {MANIFEST_NAME}, the other sets have: they cannot be read together")
    if verify:
        raise ConfigError(f"verify_reads needs an index, {locations[0].folder} has none")
    if weights is not None:
        raise ConfigError(f"weights need shard sets with a {MANIFEST_NAME}, {locations[0].folder} has none")
    return ForeignSource(locations, shuffle, cache, choice)


def _manifest_of(location: Location) -> Manifest | None:
    if location.index is not None:
        return read_manifest(location.index)
    folder = RemoteFolder(location.folder) if isinstance(location.folder, Prefix) else location.folder
    return find_manifest(folder, location.names)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
