"""The source of tars without a manifest, which are streamed from their start."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from mps_shards.errors import DecodeError, ShardError
from mps_shards.reading.batch_plan import BatchPlan, SampleName
from mps_shards.reading.foreign_shards import ForeignShards, Repeated, Streamed
from mps_shards.reading.sample_sources import Damaged, Request, refused
from mps_shards.sampling.order import Shuffle
from mps_shards.shards.field_choice import NO_TARGET, FieldChoice, is_mask
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import RawSample
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.folder import Traffic
from mps_shards.storage.location import Location

__all__ = ["ForeignSource"]

# Samples that foreign tars are shuffled among: a tenth of a second's reading, 110 MB at ImageNet's sizes.
_SHUFFLE_BUFFER = 1000

_log = logging.getLogger("mps_shards")


class ForeignPlan:
    """A `BatchPlan` of samples that were read with their tar already."""

    __slots__ = ("_choice", "_samples", "next_position", "positions", "task")

    def __init__(
        self, choice: FieldChoice, task: Task | None, positions: list[int], samples: list[Streamed], next_position: int
    ):
        self._choice, self.task, self._samples = choice, task, samples
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
        choice: The fields to take for image and target; what it leaves open is guessed from the first sample.
    """

    def __init__(
        self,
        locations: Sequence[Location],
        shuffle: Shuffle | None,
        cache: Cache | None = None,
        choice: FieldChoice | None = None,
    ):
        self._shards = ForeignShards(locations, buffer=_SHUFFLE_BUFFER if shuffle else 0, cache=cache)
        self._choice = choice or FieldChoice()
        self.samples: int | None = None
        self.task: Task | None = self._choice.task
        self.classes: tuple[str, ...] = ()
        self.ignore_index: int | None = None
        self.fingerprint: dict[str, Any] = {"set": self._shards.fingerprint}
        self._guess_was_logged = False

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """See `Source`. Reads from the epoch's start, passing over what comes before `request.start`."""
        share, number = request.share, 0
        task, guessed = self._choice.task, False
        positions: list[int] = []
        samples: list[Streamed] = []
        for position, sample in self._shards.of_rank(
            share,
            seed=request.seed,
            epoch=request.epoch,
            start=request.start,
            remainder=request.remainder,
            damaged=damaged,
        ):
            if not guessed and isinstance(sample, RawSample):
                task, guessed = self._guess(sample, task)
            positions.append(position)
            samples.append(sample)
            if len(samples) == request.batch_size:
                if number % share.num_workers == share.worker:
                    yield ForeignPlan(self._choice, task, positions, samples, request.deal(None).after(number))
                positions, samples = [], []
                number += 1
        if samples and not request.drop_last and number % share.num_workers == share.worker:
            # as after a full batch: with "keep" another rank may have more of them
            yield ForeignPlan(self._choice, task, positions, samples, request.deal(None).after(number))

    def _guess(self, sample: RawSample, task: Task | None) -> tuple[Task | None, bool]:
        """Settle what the targets are, and log which fields are taken; False where the sample leaves it in doubt."""
        try:
            image, target = self._choice.image_field(sample), self._choice.target_field(sample)
        except DecodeError:  # the plan raises it when this very sample is read
            return task, False
        if task is None:
            task = "unlabeled" if target is None else "segmentation" if is_mask(target) else "classification"
        self.task = task
        if not self._guess_was_logged:
            unused = sorted(sample.fields.keys() - {image, (target or "").partition(":")[0]})
            aside = f"; not used: {', '.join(unused)}" if unused else ""
            # labels that nobody asked for are seldom missed, but those that were overlooked are
            level = logging.WARNING if target is None and unused and not self._choice.target else logging.INFO
            _log.log(level, "reading as %s: image %s, target %s%s", task, image, target or NO_TARGET, aside)
            self._guess_was_logged = True
        return task, True

    def stop(self, request: Request) -> None:
        """See `Source`. Nobody waits to read a sample."""

    def traffic(self) -> Traffic:
        """See `Source`."""
        return self._shards.traffic()

    def close(self) -> None:
        """See `Source`. Nothing stays open."""
