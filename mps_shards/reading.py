"""One iteration over a data set: its steps, how a sample of them is made, and the cursor behind each batch."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from mps_shards.errors import DataError, ShardsError
from mps_shards.feed.batch import Made
from mps_shards.metrics import StageTimes
from mps_shards.read.cursor import Cursor
from mps_shards.read.source import Request, Source, Step
from mps_shards.shards import keyed
from mps_shards.vision.classify import Mix
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.sample import image_and_target, planned_image_and_target
from mps_shards.vision.view import Planned, seen

__all__ = ["Batch", "Policy", "Reading", "Transform"]

# (image uint8 (3, height, width), target, generator keyed by the sample's position) -> (image, target)
Transform = Callable[[Any, Any, Any], tuple[Any, Any]]
Policy = Literal["raise", "skip"] | Callable[[DataError], bool]

_log = logging.getLogger("mps_shards")


class Batch(NamedTuple):
    """What a step gave: its content (None where every sample of it was skipped), and the cursor after it."""

    content: Any
    cursor: Cursor


class Reading:
    """One iteration over one place's share of an epoch.

    Args:
        torch_worker: number of the DataLoader worker that this runs in; None outside of one.
    """

    def __init__(
        self,
        source: Source,
        request: Request,
        *,
        transform: Transform | None,
        on_bad_sample: Policy,
        scaled: bool,
        mix: Mix | None,
        fingerprint: dict[str, Any],
        torch_worker: int | None,
    ):
        self._source, self._request, self._transform = source, request, transform
        self._planned = transform if scaled and isinstance(transform, Planned) else None
        self._mix = mix
        self._on_bad_sample, self._fingerprint, self._torch_worker = on_bad_sample, fingerprint, torch_worker

    def steps(self) -> Iterator[Step]:
        """The batches to make. To be pulled by one thread at a time."""
        return self._source.steps(self._request)

    def maker(self, times: StageTimes) -> Callable[[tuple[int, Any]], Made | None]:
        """Makes the sample of a (position, item); None where it is skipped. One for each thread.

        Args:
            times: where the seconds of each stage are added.
        """
        source, transform, epoch, clock = self._source, self._transform, self._request.epoch, time.perf_counter
        random, planned = KeyedRandom(seed=self._request.seed), self._planned

        def make(entry: tuple[int, Any]) -> Made | None:
            position, item = entry
            raw = None
            began = clock()
            try:
                raw = source.fetch(item)
                read = clock()
                view = None
                if planned is not None:
                    image, target, view = planned_image_and_target(
                        raw, planned, random.at(epoch, position), task=source.task, classes=len(source.classes)
                    )
                else:
                    image, target = image_and_target(raw, task=source.task, classes=len(source.classes))
            except ShardsError as error:
                error.add_note(f"in sample {raw.key!r} of shard {raw.shard}" if raw else f"at position {position}")
                if _skipped(error, self._on_bad_sample):
                    return None
                raise
            decoded = clock()
            if planned is not None and view is not None:
                image = seen(image, view, planned.interpolation)
            elif transform is not None:
                try:
                    image, target = transform(image, target, random.at(epoch, position))
                except Exception as error:
                    error.add_note(f"in the transform, given sample {raw.key!r} of shard {raw.shard}")
                    raise
            times.read += read - began
            times.decode += decoded - read
            times.transform += clock() - decoded
            times.bytes_read += sum(map(len, raw.fields.values()))
            return Made(image, target, raw.key)

        return make

    def mixed(self, tensors: tuple[Any, Any], step: Step) -> tuple[Any, Any]:
        """The batch after MixUp or CutMix, keyed by its first position; as it is, if none was asked for."""
        if self._mix is None:
            return tensors
        seed, epoch = self._request.seed, self._request.epoch
        key = keyed.bits(keyed.Stream.MIXUP, 1, seed=seed, epoch=epoch, a=step.positions[0])
        return self._mix(*tensors, int(key[0] >> np.uint64(1)))

    def finished(self, content: Any, step: Step) -> Batch:
        """A batch with the cursor after it.

        Raises:
            DataError: nothing is left of it, and other ranks or workers count on it.
        """
        place = self._request.place
        if content is None and (place.world > 1 or self._torch_worker is not None):
            raise DataError(
                f"all {len(step.items)} samples of a batch (positions {step.positions[0]} to {step.positions[-1]}) "
                "were skipped; with several ranks or DataLoader workers that would put them out of step"
            )
        # a worker's next batch comes after those of all the others
        return Batch(content, self._cursor(step.after, steps_ahead=place.workers - 1))

    def ended(self) -> Batch | None:
        """What comes after the last batch: nothing, and the cursor at the start of the next epoch."""
        if self._torch_worker is not None:  # torchdata itself keeps account of workers that have ended
            return None
        return Batch(None, Cursor(epoch=self._request.epoch + 1, position=0, fingerprint=self._fingerprint))

    def begun(self) -> Cursor:
        """The cursor before the first batch."""
        return self._cursor(self._request.start, steps_ahead=self._request.place.worker)

    def _cursor(self, position: int, *, steps_ahead: int) -> Cursor:
        worker = None
        if self._torch_worker is not None:
            place = self._request.place
            step = self._request.batch * place.world
            worker = (self._torch_worker, place.workers, step)
            position += steps_ahead * step
            if self._source.samples is not None:
                position = min(position, self._source.samples)
        return Cursor(epoch=self._request.epoch, position=position, fingerprint=self._fingerprint, worker=worker)


def _skipped(error: ShardsError, policy: Policy) -> bool:
    """Whether to leave the sample out."""
    if policy == "raise" or not isinstance(error, DataError):  # a broken disk is no broken sample
        return False
    if policy != "skip" and not policy(error):
        return False
    # its text: a handler that keeps records would keep the error's frames too, and with them the open shards
    _log.warning("skipped a bad sample: %s (%s)", str(error), "; ".join(getattr(error, "__notes__", ())))
    return True
