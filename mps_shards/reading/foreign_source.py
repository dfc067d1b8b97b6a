"""Source of samples from foreign shards (tars without a manifest), which are streamed from their start."""

import contextlib
import logging
from collections.abc import Iterator, Sequence, Set
from contextlib import nullcontext
from typing import Any, NamedTuple

from mps_shards.errors import ConfigError, DecodeError, ShardError
from mps_shards.reading.batch_plan import BatchPlan, SampleName
from mps_shards.reading.foreign_shards import ForeignShards, Repeated, Streamed
from mps_shards.reading.sample_sources import Damaged, Request, refused
from mps_shards.sampling.order import Shuffle
from mps_shards.shards.field_choice import CAPTION_FIELD, NO_TARGET, FieldChoice
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import MASK_FIELD, RawSample
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.folder import Traffic
from mps_shards.storage.location import Location

__all__ = ["ForeignSource"]

# Number of samples in the shuffle buffer of foreign tars: 0.1 s of reading, 110 MB at ImageNet's sizes.
_SHUFFLE_BUFFER = 1000

# Number of first samples without a target after which a set counts as unlabelled: 7 MB at ImageNet's sizes.
_LOOKED_AT = 64

_log = logging.getLogger("mps_shards")


class _Look(NamedTuple):
    """The fields of a sample, the name of its image, and the name of its target; None if it has no target."""

    fields: Set[str]
    image: str
    target: str | None


class ForeignPlan:
    """A `BatchPlan` whose samples have been read already, as part of their tar."""

    __slots__ = ("_choice", "_samples", "next_position", "positions", "task")

    def __init__(
        self, choice: FieldChoice, task: Task | None, positions: list[int], samples: list[Streamed], next_position: int
    ):
        self._choice, self.task, self._samples = choice, task, samples
        self.positions, self.next_position = positions, next_position

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, row: int) -> RawSample:
        """Return the sample of a row, with the fields that the choice of fields names."""
        sample = self._samples[row]
        if isinstance(sample, Repeated):
            raise ShardError(str(sample))
        plain = self._choice.plain(sample)
        if self.task in ("unlabeled", "captions") and (held := plain.fields.keys() & {"cls", MASK_FIELD}):
            raise ConfigError(
                f"sample {sample.key!r} of shard {sample.shard} has a target ({held.pop()}), but none of the first "
                f"{_LOOKED_AT} samples had such a target: name it with target=, so that samples without it are bad "
                'samples, or ignore all targets with target="none"'
            )
        return plain

    def opened(self, first: int, last: int) -> nullcontext[None]:
        """Yield None, because the samples were streamed and are in memory."""
        return nullcontext()

    def name(self, row: int) -> SampleName:
        sample = self._samples[row]
        return SampleName(sample.shard, sample.key)


class ForeignSource:
    """Source that reads foreign shards (tars without a manifest).

    Args:
        locations: tar files, or folders of tar files.
        shuffle: shuffle the order of the tars, and the samples in a buffer; None keeps the order.
        cache: cache for complete tars; None for no cache.
        choice: fields to take for image and target; fields that it leaves open are guessed from the first samples.
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
        self.columns: tuple[str, ...] = ()
        self.fingerprint: dict[str, Any] = {"set": self._shards.fingerprint}
        self._guess_was_logged = self._choice.keeps_all  # no field is guessed if all fields are kept

    def plans(self, request: Request, *, damaged: Damaged = refused) -> Iterator[BatchPlan]:
        """Yield the plans of the batches of one share. Reads from the epoch's start, and skips earlier samples."""
        share, number = request.share, 0
        positions: list[int] = []
        samples: list[Streamed] = []
        for position, sample in self._shards.of_rank(
            share,
            seed=request.seed,
            epoch=request.epoch,
            start=request.start,
            remainder=request.remainder,
            damaged=damaged,
            look=self._settled,
        ):
            positions.append(position)
            samples.append(sample)
            if len(samples) == request.batch_size:
                if number % share.num_workers == share.worker:
                    yield ForeignPlan(self._choice, self.task, positions, samples, request.deal(None).after(number))
                positions, samples = [], []
                number += 1
        if samples and not request.drop_last and number % share.num_workers == share.worker:
            # the position after a full batch, because with remainder="keep" another rank may have more samples
            yield ForeignPlan(self._choice, self.task, positions, samples, request.deal(None).after(number))

    def _settled(self, sequence: Iterator[Streamed]) -> Iterator[Streamed]:
        """Yield the samples unchanged, after deciding the kind of the targets by the first sample that has a target.

        All ranks see the same samples, so they decide equally. A sample without a target, or with a text that was not
        chosen, decides it only if none of the first `_LOOKED_AT` samples has another target, because it may be a
        damaged sample of a set with labels.
        """
        held: list[Streamed] = []
        without: _Look | None = None
        failure = None
        while not self._guess_was_logged and len(held) < _LOOKED_AT:
            try:
                sample = next(sequence, None)
            except Exception as error:  # raised below, after the samples before it
                failure = error
                break
            if sample is None:
                break
            held.append(sample)
            found = self._look(sample)
            if found is None:
                continue
            if self._choice.task is not None or found.target not in (None, CAPTION_FIELD):
                self._settle(found)
            if without is None or (without.target is None and found.target is not None):
                without = found
        if without is not None and not self._guess_was_logged:
            self._settle(without)
        yield from held
        if failure is not None:
            raise failure
        yield from sequence

    def _look(self, sample: Streamed) -> _Look | None:
        """Return which fields of a sample are image and target; None if it is unclear which field is the target."""
        if isinstance(sample, Repeated):
            sample = RawSample(key=sample.key, shard=sample.shard, fields=dict.fromkeys(sample.fields, b""))
        image = "in doubt"
        try:
            target = self._choice.target_field(sample)
            with contextlib.suppress(DecodeError):  # raised when the sample is read through its plan
                image = self._choice.image_field(sample)
        except DecodeError:
            return None
        return _Look(sample.fields.keys(), image, target)

    def _settle(self, found: _Look) -> None:
        self.task = self._choice.kind_of(found.target)
        unused = sorted(found.fields - {found.image, (found.target or "").partition(":")[0]})
        aside = f"; not used: {', '.join(unused)}" if unused else ""
        # a warning if labels may have been overlooked or mistaken for captions; otherwise the guess is only logged
        guessed = self._choice.task is None and (self.task == "captions" or (found.target is None and unused))
        level = logging.WARNING if guessed else logging.INFO
        if guessed:
            aside += '; to choose another target, pass target=, such as "json:label" or "none"'
        target = found.target or NO_TARGET
        _log.log(level, "reading as %s: image %s, target %s%s", self.task, found.image, target, aside)
        self._guess_was_logged = True

    def stop(self, request: Request) -> None:
        """Do nothing, because no thread waits to read a sample."""

    def traffic(self) -> Traffic:
        return self._shards.traffic()

    def close(self) -> None:
        """Do nothing, because no file stays open."""
