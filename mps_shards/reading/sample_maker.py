"""Makes samples in one thread: reads them, decodes their images and targets, and transforms them."""

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mps_shards import native
from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.errors import ConfigError, ShardsError
from mps_shards.metrics import StageTimes
from mps_shards.reading.bad_samples import BadSamples
from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.reading.loading import SampleLoader
from mps_shards.reading.rendering import LARGEST_RENDERED, Renderable, Renderer
from mps_shards.reading.sample_sources import Request
from mps_shards.reading.target_readers import TargetReader, with_texts
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import RawSample
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.pixel_budget import budget
from mps_shards.vision.targets import Opened
from mps_shards.vision.transforms.sample_transform import PlannedView, SampleTransform, ThreadTransform
from mps_shards.vision.views import View

__all__ = ["SampleOptions", "ThreadSampleMaker", "is_scaled"]

# Limits for the samples that are read before the first is decoded: their number, and their bytes (half of the cache
# that a core usually has).
_BUNCH, _BUNCH_BYTES = 16, 1 << 20


def is_scaled(decode: str, transform: SampleTransform, task: Task | None) -> bool:
    """Whether the option `decode` lets images be decoded no larger than the transform needs.

    Raises:
        ConfigError: `decode` is "scaled", but the transform or the task does not support it.
    """
    if decode == "scaled" and not transform.planned:
        raise ConfigError(
            "decode='scaled' needs a transform whose crop follows from the size of the image alone, such as "
            "classify.train or classify.evaluate"
        )
    if decode == "scaled" and task == "segmentation":
        raise ConfigError("decode='scaled' serves classification; leave it out for sets with label maps")
    return decode == "scaled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Options for making samples, the same in all epochs.

    Attributes:
        transform: transform of every sample.
        targets: reader of the targets.
        max_pixels: limit for the pixels of an image or a mask; a sample with a larger one is a bad sample.
        scaled: whether JPEGs are decoded no larger than the transform needs.
    """

    transform: SampleTransform
    targets: TargetReader
    max_pixels: int
    scaled: bool


class _Prepared(NamedTuple):
    """A sample that has been read but not decoded, or the error of reading it.

    Attributes:
        row: row of the batch.
        raw: content of the sample's fields; None if reading failed.
        known: the image's size and the target; None if opening failed.
        views: views of the image that the transform has planned; None if it plans none.
        failure: the error that makes this a bad sample.
    """

    row: int
    raw: RawSample | None
    known: Opened | None
    views: list[PlannedView] | None
    failure: ShardsError | None


class ThreadSampleMaker:
    """Makes samples in one thread.

    Several samples are read, and their views are planned, before the first of them is decoded: decoding evicts Python's
    data from the CPU's cache.

    Args:
        request: request whose samples are made.
        options: options for making samples.
        bad: account of bad samples, which decides whether one is skipped; shared by all threads of an iteration.
        times: stage times to which the maker adds its seconds.
    """

    def __init__(self, request: Request, options: SampleOptions, *, bad: BadSamples, times: StageTimes):
        self._targets, self._bad, self._epoch = options.targets, bad, request.epoch
        self._transform = ThreadTransform(options.transform, seed=request.seed)
        self._scaled, self._max_pixels = options.scaled, options.max_pixels
        self._pair = options.transform.pair
        renders = (options.transform.is_view or self._pair is not None) and native.is_available()
        self._renderer = Renderer(options.max_pixels, options.transform.pixel_table) if renders else None
        self._has_fixed_shape = options.transform.geometry.shape is not None
        self._loader: SampleLoader | None = None
        self._request, self._options, self._times = request, options, times

    def __call__(self, batch: HostBatch, first: int, last: int) -> None:
        """Put the samples of rows `first` to `last - 1` of the batch's plan into the batch, or skip them."""
        plan: BatchPlan = batch.plan  # type: ignore[assignment]  # the iteration makes its batches from such plans
        loader = self._loader = self._loader or self._new_loader(plan.task)
        rows: Sequence[int] = range(first, last)
        if self._renderer is not None and not self._has_fixed_shape and not batch.is_padded:
            # an image decides the shape of the batch when it is decoded: the size in a header may be damaged
            while rows and not batch.is_laid_out:
                self._make_one(batch, plan, self._prepared(plan, rows[0]))
                rows = rows[1:]
        if loader is not None and rows:
            rows = loader(batch, plan, rows[0], last)
        self._make(batch, plan, iter(rows))

    def _new_loader(self, task: Task | None) -> SampleLoader | None:
        most_label = self._targets.most_label(task)
        if self._renderer is None or most_label is None:
            return None
        return SampleLoader(
            self._renderer,
            self._options.transform,
            self._request,
            most_label=most_label,
            scaled=self._scaled,
            max_pixels=self._max_pixels,
            times=self._times,
        )

    def _make(self, batch: HostBatch, plan: BatchPlan, rows: Iterator[int]) -> None:
        while bunch := self._bunch(plan, rows):
            rendered = self._rendered(batch, bunch)
            for prepared in bunch:
                if prepared.row in rendered:
                    assert prepared.raw is not None and prepared.known is not None
                    key, target = with_texts(prepared.raw.key, prepared.known.target)
                    batch.put_rest(prepared.row, [key], [target])
                    continue
                self._make_one(batch, plan, prepared)

    def _make_one(self, batch: HostBatch, plan: BatchPlan, prepared: _Prepared) -> None:
        budget.begin_sample()
        try:
            sample = self._finished(plan, prepared)
        finally:
            budget.end_sample()
        if sample is None:
            batch.skip(prepared.row)
            return
        began = time.perf_counter()
        batch.put(prepared.row, sample)
        self._times.assemble += time.perf_counter() - began

    def _rendered(self, batch: HostBatch, bunch: list[_Prepared]) -> Container[int]:
        """Render images with the native kernel, and return the rows that it has written.

        Python makes the other rows one by one; the pixels are the same either way.
        """
        if self._renderer is None:
            return ()
        began = time.perf_counter()
        images = [image for prepared in bunch if (image := self._renderable(prepared)) is not None]
        rows = self._renderer(batch, images)
        self._times.decode += time.perf_counter() - began
        return rows

    def _renderable(self, prepared: _Prepared) -> Renderable | None:
        row, raw, known, views, _ = prepared
        if raw is None or known is None or known.size is None or type(known.target) not in (int, str):
            return None
        if known.size[0] * known.size[1] >= LARGEST_RENDERED:  # the kernel's memory is not counted in the budget
            return None
        view = views[0].view if views is not None else View((0, 0, *known.size), known.size, None, False)
        return Renderable(row, raw.key, known.image, view, view.factor() if self._scaled else 1)

    def _bunch(self, plan: BatchPlan, rows: Iterator[int]) -> list[_Prepared]:
        began, bunch, enough = time.perf_counter(), [], self._times.bytes_read + _BUNCH_BYTES
        for row in rows:
            bunch.append(self._prepared(plan, row))
            if self._times.bytes_read >= enough or len(bunch) == _BUNCH:
                break
        self._times.read += time.perf_counter() - began
        return bunch

    def _prepared(self, plan: BatchPlan, row: int) -> _Prepared:
        transform = self._transform
        raw = known = views = failure = None
        try:
            raw = plan.read(row)
            self._times.bytes_read += sum(map(len, raw.fields.values()))
            known = self._targets.opened(raw, plan.task)
            if transform.plans and known.size is not None and known.target is not None:
                views = transform.plan(known.size, self._epoch, plan.positions[row])
        except ShardsError as error:
            failure = error
        return _Prepared(row, raw, known, views, failure)

    def _finished(self, plan: BatchPlan, prepared: _Prepared) -> Sample | None:
        row, raw, known, views, failure = prepared
        position = plan.positions[row]
        times = self._times
        began = time.perf_counter()
        factor = min(each.view.factor() for each in views) if views is not None and self._scaled else 1
        try:
            if failure is not None:
                raise failure
            assert raw is not None and known is not None
            pair = self._pair_view(raw, known, position)
            if views is not None:
                pixels = decode_image(known.image, factor=factor, max_pixels=self._max_pixels, size=known.size)
            elif pair is None:
                image, target = self._targets.decoded(raw, known)
        except ShardsError as error:
            error.add_note(f"in sample {raw.key!r} of shard {raw.shard}" if raw else f"at position {position}")
            shard, key = plan.name(row) if raw is None else (raw.shard, raw.key)
            if self._bad.leave_out(error, shard=shard, key=key, position=position):
                return None
            raise
        decoded = time.perf_counter()
        times.decode += decoded - began
        try:
            if views is not None:
                image, target = self._transform.show(pixels, views, factor), known.target
            elif pair is not None and self._pair is not None:
                image, target = self._pair.show(*pair)
            else:
                image, target = self._targets.transformed(self._transform, image, target, self._epoch, position)
        except Exception as error:
            error.add_note(f"in the transform, given sample {raw.key!r} of shard {raw.shard}")
            raise
        times.transform += time.perf_counter() - decoded
        key, target = with_texts(raw.key, target)
        return Sample(image, target, key)

    def _pair_view(
        self, raw: RawSample, known: Opened, position: int
    ) -> tuple[torch.Tensor, torch.Tensor, View, np.random.Generator] | None:
        """Return the arguments for `segment.train.show`, with the image rendered by the kernel; None if it declines."""
        if self._pair is None or self._renderer is None or known.size is None or known.target is not None:
            return None
        view, rng = self._transform.plan_pair(known.size, self._epoch, position)
        image = self._renderer.view(known.image, view)
        label_map = self._targets.label_map(raw, known.size) if image is not None else None
        return None if image is None or label_map is None else (image, label_map, view, rng)
