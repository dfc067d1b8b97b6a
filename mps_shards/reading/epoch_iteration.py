"""An iteration over one rank's share of an epoch, which a loader's threads or a plain loop may run."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch

from mps_shards.batching import tree
from mps_shards.batching.batch_source import Allocate
from mps_shards.batching.host_batch import HostBatch, ImageFormat
from mps_shards.batching.padding import PaddedBatch
from mps_shards.errors import DataError
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.reading.bad_samples import BadSamples, SkipRules
from mps_shards.reading.batch_plan import BatchPlan
from mps_shards.reading.collate import Collate
from mps_shards.reading.read_position import ReadPosition
from mps_shards.reading.sample_maker import SampleOptions, ThreadSampleMaker
from mps_shards.reading.sample_sources import Source
from mps_shards.reading.target_readers import SampleKey
from mps_shards.sampling.cursor import Cursor
from mps_shards.shards import keyed
from mps_shards.storage.folder import Traffic
from mps_shards.vision.label_maps import DEFAULT_IGNORE_INDEX
from mps_shards.vision.normalization import Normalize
from mps_shards.vision.transforms import classify

__all__ = ["BatchOptions", "EpochIteration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """Options for assembling batches, the same in all epochs.

    Attributes:
        single: yield single samples, without the batch dimension.
        keys: yield the keys as well.
        names: names of the values, in order, if samples are dicts of several values; None for (image, target).
        image_format: normalisation and memory layout of the images.
        mix: MixUp or CutMix; None for neither.
        pad: multiple to which images of different sizes are padded; None to refuse different sizes.
    """

    single: bool
    keys: bool
    names: tuple[str, ...] | None
    image_format: ImageFormat
    mix: classify.mix | None
    pad: int | None

    @classmethod
    def of(
        cls, collate: Collate, *, single: bool, keys: bool, fields: Iterable[str] | None, normalize: Normalize | None
    ) -> Self:
        """Return the options for the arguments of a data set. Raises ConfigError if `normalize` is invalid."""
        return cls(
            single=single,
            keys=keys,
            names=None if fields is None else tuple(fields),
            image_format=ImageFormat.parse(normalize=normalize, channels_last=collate.channels_last),
            mix=collate.mix,
            pad=collate.pad,
        )


class EpochIteration:
    """An iteration over a `ShardDataset`, see `mps_shards.batching.batch_source.Iteration`.

    Args:
        source: source of the samples.
        samples: options for making samples.
        batches: options for assembling batches.
        rules: rules for skipping bad samples.
        position: position of the data set, at which the iteration starts, and which advances with each batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        samples: SampleOptions,
        batches: BatchOptions,
        rules: SkipRules,
        position: ReadPosition,
    ):
        self._source, self._samples, self._batches, self._rules = source, samples, batches, rules
        self._position = position
        self._number = position.new_iteration()
        self._cursor: Cursor | None = None
        self._moves = 0

    def begin(self) -> None:
        """Fix the epoch, the start position and the rank, and begin to count bad samples."""
        self._start = self._position.begin()
        request, samples = self._start.request, self._source.samples
        epoch = replace(request, start=0).deal(samples)
        self._bad = BadSamples(
            self._rules,
            share=request.share,
            epoch=request.epoch,
            samples=epoch.worker_count if samples is not None else None,
        )
        self._asked_before = self._source.traffic()
        self._position.count_skips(self._start, self._bad)
        self._move(self._start.first_cursor())

    def plans(self) -> Generator[BatchPlan, None, None]:
        """Yield the plans of the batches, in order. Runs in one thread at a time."""
        for plan in self._source.plans(self._start.request, damaged=self._bad.leave_out):
            self._bad.seen += len(plan)
            yield plan

    def sample_maker(self, times: StageTimes) -> ThreadSampleMaker:
        """Return a function that makes samples in one thread, and adds its seconds to `times`."""
        return ThreadSampleMaker(self._start.request, self._samples, bad=self._bad, times=times)

    def new_batch(self, plan: BatchPlan, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """Return an empty batch for a plan, which one or several threads may fill."""
        options = self._batches
        if options.pad is None:
            return HostBatch(plan, allocate, pixels=pixels, image_format=options.image_format)
        ignore = DEFAULT_IGNORE_INDEX if self._source.ignore_index is None else self._source.ignore_index
        return PaddedBatch(
            plan,
            allocate,
            pixels=pixels,
            image_format=options.image_format,
            multiple=options.pad,
            ignore_index=ignore,
        )

    def deliver(self, plan: BatchPlan, tensors: tuple[Any, Any] | None, keys: list[str]) -> Any | None:
        """Return the batch as users get it, and advance the cursor; None if every sample was skipped.

        Raises:
            DataError: every sample of the batch was skipped, but other ranks or workers deliver this batch.
        """
        share = self._start.request.share
        if tensors is None and (share.world_size > 1 or self._start.worker is not None):
            raise DataError(
                f"all {len(plan)} samples of a batch (positions {plan.positions[0]} to {plan.positions[-1]}) were "
                "skipped, so that ranks or DataLoader workers would have different numbers of batches: repair the set"
            )
        content = None if tensors is None else self._content(self._mixed(plan, tensors), keys)
        # each of the other workers delivers a batch before this worker's next batch
        self._move(self._start.cursor(plan.next_position, batches_ahead=share.num_workers - 1))
        self._position.delivered(self._start)
        return content

    def end(self) -> None:
        """Move the cursor to the start of the next epoch.

        Raises:
            DataError: more samples were skipped than the rules allow.
        """
        self._bad.finish()
        self._position.delivered(self._start)
        if self._start.worker is None:  # torchdata keeps track of workers that have ended
            self._move(self._start.sequence.cursor(self._start.request.epoch + 1, 0))

    def cancel(self) -> None:
        """Wake every thread that waits for bytes, because the samples are no longer needed."""
        self._source.stop(self._start.request)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the cursor after the last batch that this iteration delivered, as plain values.

        Returns None if the cursor of the data set is valid instead: before `begin`, and after `set_epoch` or
        `load_state_dict` of the data set.
        """
        return self._cursor.state() if self._cursor is not None and self._moves == self._position.moves else None

    def skips(self) -> SkipReport:
        """Return the samples that this iteration has skipped so far."""
        return self._bad.report()

    def traffic(self) -> Traffic:
        """Return the counts of requests to object stores since this iteration began."""
        return self._source.traffic().since(self._asked_before)

    def _move(self, cursor: Cursor) -> None:
        self._cursor, self._moves = cursor, self._position.moves
        self._position.moved(self._number, cursor)

    def _mixed(self, plan: BatchPlan, tensors: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return the batch after MixUp or CutMix, if chosen; random numbers depend on the batch's first position."""
        if self._batches.mix is None:
            return tensors
        request = self._start.request
        key = keyed.bits(keyed.Stream.MIXUP, 1, seed=request.seed, epoch=request.epoch, a=plan.positions[0])
        return self._batches.mix(*tensors, int(key[0] >> np.uint64(1)))

    def _content(self, tensors: tuple[Any, Any], keys: list[str]) -> Any:
        """Return the batch as users get it: with keys if requested, and without batch dimension for single samples."""
        options = self._batches
        if options.single:
            tensors = tree.rebuilt(tensors, [leaf[0] for leaf in tree.leaves(tensors)])
        images, targets = tensors
        carried = [key.texts for key in keys if isinstance(key, SampleKey)]
        for name in carried[0] if carried else ():
            texts = carried[0][name] if options.single else [each[name] for each in carried]
            targets = {**targets, name: texts} if name else texts
        shown = str(keys[0]) if options.single else [str(key) for key in keys]
        if options.names is not None:
            values = {name: images if name == "image" else targets[name] for name in options.names}
            return {**values, "key": shown} if options.keys else values
        return (images, targets, shown) if options.keys else (images, targets)
