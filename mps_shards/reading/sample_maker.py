"""One iteration over a data set: its steps, how a sample of them is made, and the cursor behind each batch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mps_shards.batching.host_batch import Made
from mps_shards.errors import ConfigError, DataError, ShardsError
from mps_shards.metrics import StageTimes
from mps_shards.reading.bad_samples import BadSamples, SkipRules
from mps_shards.reading.sample_sources import Request, Source, Step
from mps_shards.sampling.cursor import Cursor
from mps_shards.shards import keyed
from mps_shards.shards.raw_sample import RawSample
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.targets import Opened, image_and_target, opened
from mps_shards.vision.transforms import classify
from mps_shards.vision.transforms.classify import Mix
from mps_shards.vision.views import Planned, View, seen_pixels

__all__ = ["Batch", "Reading", "Transform", "is_scaled"]

# Samples that are read before the first of them is decoded, and their bytes: half of a usual CPU's cache of a core.
_BUNCH, _BUNCH_BYTES = 16, 1 << 20

# (image uint8 (3, height, width), target, generator keyed by the sample's position) -> (image, target)
Transform = Callable[[Any, Any, Any], tuple[Any, Any]]


def is_scaled(decode: str, transform: Transform | None) -> bool:
    """Whether images are decoded no larger than `transform` shows them. Raises ConfigError where that cannot be."""
    if decode not in ("exact", "scaled"):
        raise ConfigError(f"decode must be 'exact' or 'scaled', not {decode!r}")
    if decode == "scaled" and not isinstance(transform, Planned):
        raise ConfigError("decode='scaled' needs a transform that plans what it shows: classify.train or evaluate")
    return decode == "scaled"


class Batch(NamedTuple):
    """What a step gave: its content (None where every sample of it was skipped), and the cursor after it."""

    content: Any
    cursor: Cursor


class Reading:
    """One iteration over one place's share of an epoch.

    Args:
        rules: which bad samples may be left out.
        max_pixels: of an image or a mask; more are refused.
        torch_worker: number of the DataLoader worker that this runs in; None outside of one.

    Attributes:
        source, request, transform, scaled, max_pixels: as given.
        bad: what was left out.
    """

    def __init__(
        self,
        source: Source,
        request: Request,
        *,
        transform: Transform | None,
        rules: SkipRules,
        max_pixels: int,
        scaled: bool,
        mix: Mix | None,
        fingerprint: dict[str, Any],
        torch_worker: int | None,
    ):
        self.source, self.request, self.transform = source, request, transform
        self.scaled, self.max_pixels = scaled, max_pixels
        self._mix = mix
        whole = replace(request, start=0).deal(source.samples)
        self.bad = BadSamples(
            rules,
            place=request.place,
            epoch=request.epoch,
            samples=whole.own_count if source.samples is not None else None,
        )
        self._fingerprint, self._torch_worker = fingerprint, torch_worker

    def steps(self) -> Iterator[Step]:
        """The batches to make. To be pulled by one thread at a time."""
        return self._counted(self.source.steps(self.request, damaged=self.bad.leave_out))

    def _counted(self, steps: Iterator[Step]) -> Iterator[Step]:
        for step in steps:
            self.bad.seen += len(step.items)
            yield step

    def stop(self) -> None:
        """Wake whoever waits for bytes in a maker: nobody wants its samples any more. From any thread."""
        self.source.stop(self.request)

    def maker(self, times: StageTimes) -> Callable[[list[tuple[int, Any]]], Iterator[Made | None]]:
        """Makes the samples of (position, item) in order; None where one is skipped. One for each thread.

        Args:
            times: where the seconds of each stage are added.
        """
        return _Maker(self, times)

    def mixed(self, tensors: tuple[Any, Any], step: Step) -> tuple[Any, Any]:
        """The batch after MixUp or CutMix, keyed by its first position; as it is, if none was asked for."""
        if self._mix is None:
            return tensors
        seed, epoch = self.request.seed, self.request.epoch
        key = keyed.bits(keyed.Stream.MIXUP, 1, seed=seed, epoch=epoch, a=step.positions[0])
        return self._mix(*tensors, int(key[0] >> np.uint64(1)))

    def finished(self, content: Any, step: Step) -> Batch:
        """A batch with the cursor after it.

        Raises:
            DataError: nothing is left of it, and other ranks or workers count on it.
        """
        place = self.request.place
        if content is None and (place.world > 1 or self._torch_worker is not None):
            raise DataError(
                f"all {len(step.items)} samples of a batch (positions {step.positions[0]} to {step.positions[-1]}) "
                "were skipped; with several ranks or DataLoader workers that would put them out of step"
            )
        # a worker's next batch comes after those of all the others
        return Batch(content, self._cursor(step.after, steps_ahead=place.workers - 1))

    def ended(self) -> Batch | None:
        """What comes after the last batch: nothing, and the cursor at the start of the next epoch.

        Raises:
            DataError: more samples were left out than may be.
        """
        self.bad.finish()
        if self._torch_worker is not None:  # torchdata itself keeps account of workers that have ended
            return None
        return Batch(None, Cursor(epoch=self.request.epoch + 1, position=0, fingerprint=self._fingerprint))

    def begun(self) -> Cursor:
        """The cursor before the first batch."""
        return self._cursor(self.request.start, steps_ahead=self.request.place.worker)

    def _cursor(self, position: int, *, steps_ahead: int) -> Cursor:
        worker = None
        if self._torch_worker is not None:
            place = self.request.place
            step = self.request.batch * place.world
            worker = (self._torch_worker, place.workers, step)
            position += steps_ahead * step
            if self.source.samples is not None:
                position = min(position, self.source.samples)
        return Cursor(epoch=self.request.epoch, position=position, fingerprint=self._fingerprint, worker=worker)


class _Prepared(NamedTuple):
    """A (position, item), read, with what is known of it and the view that is planned; or what was wrong with it."""

    entry: tuple[int, Any]
    raw: RawSample | None
    known: Opened | None
    view: View | None
    failure: ShardsError | None


class _Maker:
    """A thread's way from items to samples.

    A bunch of samples is read, and all is decided that is known before pixels are, ahead of the first that is decoded:
    the pixels of each drive what Python works with out of the CPU's cache.
    """

    def __init__(self, reading: Reading, times: StageTimes):
        self._source, self._transform, self._bad = reading.source, reading.transform, reading.bad
        # ours show what they plan and do no more, while what derives from them may
        plans = reading.scaled or type(reading.transform) in (classify.Train, classify.Evaluate)
        self._planned = reading.transform if plans and isinstance(reading.transform, Planned) else None
        self._scaled, self._max_pixels = reading.scaled, reading.max_pixels
        self._epoch, self._random = reading.request.epoch, KeyedRandom(seed=reading.request.seed)
        self._times = times

    def __call__(self, entries: list[tuple[int, Any]]) -> Iterator[Made | None]:
        coming = iter(entries)
        while bunch := self._bunch(coming):
            yield from map(self._finished, bunch)

    def _bunch(self, coming: Iterator[tuple[int, Any]]) -> list[_Prepared]:
        began, bunch, enough = time.perf_counter(), [], self._times.bytes_read + _BUNCH_BYTES
        for entry in coming:
            bunch.append(self._prepared(entry))
            if self._times.bytes_read >= enough or len(bunch) == _BUNCH:
                break
        self._times.read += time.perf_counter() - began
        return bunch

    def _prepared(self, entry: tuple[int, Any]) -> _Prepared:
        source, planned = self._source, self._planned
        raw = known = view = failure = None
        try:
            raw = source.fetch(entry[1])
            self._times.bytes_read += sum(map(len, raw.fields.values()))
            known = opened(raw, task=source.task, classes=len(source.classes))
            if planned is not None:
                if known.target is None and self._scaled:
                    raise ConfigError("decode='scaled' serves classification; leave it out for sets with masks")
                if known.target is not None and known.size is not None:
                    view = planned.plan(*known.size, self._random.at(self._epoch, entry[0]))
        except ShardsError as error:
            failure = error
        return _Prepared(entry, raw, known, view, failure)

    def _finished(self, prepared: _Prepared) -> Made | None:
        (position, item), raw, known, view, failure = prepared
        times, source = self._times, self._source
        began = time.perf_counter()
        factor = view.factor() if view is not None and self._scaled else 1
        try:
            if failure is not None:
                raise failure
            assert raw is not None and known is not None
            if view is not None:
                pixels = decode_image(known.image, factor=factor, max_pixels=self._max_pixels, size=known.size)
            else:
                image, target = image_and_target(
                    raw,
                    known,
                    classes=len(source.classes),
                    ignore_index=source.ignore_index,
                    max_pixels=self._max_pixels,
                )
        except ShardsError as error:
            error.add_note(f"in sample {raw.key!r} of shard {raw.shard}" if raw else f"at position {position}")
            shard, key = source.named(item) if raw is None else (raw.shard, raw.key)
            if self._bad.leave_out(error, shard=shard, key=key, position=position):
                return None
            raise
        decoded = time.perf_counter()
        times.decode += decoded - began
        if view is not None and self._planned is not None:
            shown = view.shrunk(pixels.shape[0], pixels.shape[1], factor)
            image, target = seen_pixels(pixels, shown, self._planned.interpolation), known.target
            times.transform += time.perf_counter() - decoded
        elif self._transform is not None:
            try:
                image, target = self._transform(image, target, self._random.at(self._epoch, position))
            except Exception as error:
                error.add_note(f"in the transform, given sample {raw.key!r} of shard {raw.shard}")
                raise
            times.transform += time.perf_counter() - decoded
        return Made(image, target, raw.key)
