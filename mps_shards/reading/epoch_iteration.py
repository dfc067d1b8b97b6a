"""One iteration over one rank's share of an epoch, as the loader's threads and a plain loop run it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

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
from mps_shards.reading.sample_maker import SampleOptions, ThreadSampleMaker
from mps_shards.reading.sample_sources import Request, Source
from mps_shards.sampling.cursor import Cursor
from mps_shards.sampling.epoch_progress import ReadState
from mps_shards.shards import keyed
from mps_shards.storage.backend import Traffic
from mps_shards.vision.transforms import classify

__all__ = ["BatchOptions", "EpochIteration", "Start"]

_IGNORE_INDEX = 255  # of a set whose manifest names none: torchvision's and Cityscapes' "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What batches look like, for all epochs alike.

    Attributes:
        single: yield samples without the batch dimension.
        keys: yield the list of keys as well.
        pad: the multiple that the sizes of unequal images are padded to; None to refuse them.
    """

    single: bool
    keys: bool
    image_format: ImageFormat
    mix: classify.mix | None
    pad: int | None


class Start(NamedTuple):
    """Where an iteration starts.

    Attributes:
        torch_worker: number of the DataLoader worker that this runs in; None outside of one.
    """

    request: Request
    torch_worker: int | None

    def cursor(self, position: int, *, steps_ahead: int, samples: int | None, fingerprint: dict[str, Any]) -> Cursor:
        """The cursor at a position. A DataLoader worker's own next batch comes some batches of other workers later."""
        worker = None
        if self.torch_worker is not None:
            place = self.request.place
            step = self.request.batch * place.world
            worker = (self.torch_worker, place.workers, step)
            position += steps_ahead * step
            if samples is not None:
                position = min(position, samples)
        return Cursor(epoch=self.request.epoch, position=position, fingerprint=fingerprint, worker=worker)

    def first_cursor(self, *, samples: int | None, fingerprint: dict[str, Any]) -> Cursor:
        """The cursor before the first batch."""
        return self.cursor(
            self.request.start, steps_ahead=self.request.place.worker, samples=samples, fingerprint=fingerprint
        )


class EpochIteration:
    """An iteration, see `mps_shards.batching.batch_source.Iteration`.

    Args:
        rules: which bad samples may be left out.
        state: of the data set, told where this iteration stands.
        start: fixes epoch, position and rank when the iteration begins.
    """

    def __init__(
        self,
        source: Source,
        *,
        samples: SampleOptions,
        batches: BatchOptions,
        rules: SkipRules,
        fingerprint: dict[str, Any],
        state: ReadState,
        start: Callable[[], Start],
    ):
        self._source, self._samples, self._batches, self._rules = source, samples, batches, rules
        self._fingerprint, self._state, self._fix_start = fingerprint, state, start
        self._number = state.new_iteration()
        self._cursor: Cursor | None = None
        self._moves = 0

    def begin(self) -> None:
        """Fix epoch, position and rank, and start to count bad samples."""
        self._start = self._fix_start()
        request, samples = self._start.request, self._source.samples
        whole = replace(request, start=0).deal(samples)
        self._bad = BadSamples(
            self._rules,
            place=request.place,
            epoch=request.epoch,
            samples=whole.own_count if samples is not None else None,
        )
        self._asked_before = self._source.traffic()
        self._state.bad = self._bad
        self._move(self._start.first_cursor(samples=samples, fingerprint=self._fingerprint))

    def plans(self) -> Iterator[BatchPlan]:
        """The batches to make, in order. To be pulled by one thread at a time."""
        for plan in self._source.steps(self._start.request, damaged=self._bad.leave_out):
            self._bad.seen += len(plan)
            yield plan

    def sample_maker(self, times: StageTimes) -> ThreadSampleMaker:
        """Makes samples in one thread."""
        return ThreadSampleMaker(self._source, self._start.request, self._samples, bad=self._bad, times=times)

    def new_batch(self, plan: BatchPlan, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """An empty batch, to be filled by one thread or many."""
        options = self._batches
        if options.pad is None:
            return HostBatch(plan, allocate, pixels=pixels, image_format=options.image_format)
        ignore = _IGNORE_INDEX if self._source.ignore_index is None else self._source.ignore_index
        return PaddedBatch(
            plan,
            allocate,
            pixels=pixels,
            image_format=options.image_format,
            multiple=options.pad,
            ignore_index=ignore,
        )

    def deliver(self, plan: BatchPlan, tensors: tuple[Any, Any] | None, keys: list[str]) -> Any | None:
        """The batch as users get it; None where every sample of it was skipped.

        Raises:
            DataError: nothing is left of a batch that other ranks or workers count on.
        """
        place, position = self._start.request.place, plan.next_position
        if tensors is None and (place.world > 1 or self._start.torch_worker is not None):
            raise DataError(
                f"all {len(plan)} samples of a batch (positions {plan.positions[0]} to {plan.positions[-1]}) "
                "were skipped; with several ranks or DataLoader workers that would put them out of step"
            )
        content = None if tensors is None else self._content(self._mixed(plan, tensors), keys)
        self._move(
            # a worker's next batch comes after those of all the others
            self._start.cursor(
                position,
                steps_ahead=place.workers - 1,
                samples=self._source.samples,
                fingerprint=self._fingerprint,
            )
        )
        return content

    def end(self) -> None:
        """Move the cursor to the start of the next epoch.

        Raises:
            DataError: more samples were left out than may be.
        """
        self._bad.finish()
        if self._start.torch_worker is None:  # torchdata itself keeps account of workers that have ended
            self._move(Cursor(epoch=self._start.request.epoch + 1, position=0, fingerprint=self._fingerprint))

    def cancel(self) -> None:
        """Wake every thread that waits for bytes: nobody wants these samples any more."""
        self._source.stop(self._start.request)

    def state_dict(self) -> dict[str, Any] | None:
        """The cursor behind the last batch that this iteration delivered; None where that of the data set counts.

        That is so before the first batch, and once `set_epoch` or `load_state_dict` has moved the data set.
        """
        return self._cursor.state() if self._cursor is not None and self._moves == self._state.moves else None

    def skips(self) -> SkipReport:
        """The samples that this iteration left out so far."""
        return self._bad.report()

    def traffic(self) -> Traffic:
        """What was asked of object stores since this iteration began."""
        before = asdict(self._asked_before)
        return Traffic(**{name: value - before[name] for name, value in asdict(self._source.traffic()).items()})

    def _move(self, cursor: Cursor) -> None:
        self._cursor, self._moves = cursor, self._state.moves
        self._state.moved(self._number, cursor)

    def _mixed(self, plan: BatchPlan, tensors: tuple[Any, Any]) -> tuple[Any, Any]:
        """The batch after MixUp or CutMix, keyed by its first position; as it is, if none was asked for."""
        if self._batches.mix is None:
            return tensors
        request = self._start.request
        key = keyed.bits(keyed.Stream.MIXUP, 1, seed=request.seed, epoch=request.epoch, a=plan.positions[0])
        return self._batches.mix(*tensors, int(key[0] >> np.uint64(1)))

    def _content(self, tensors: tuple[Any, Any], keys: list[str]) -> Any:
        """What is yielded: with keys if asked for, without the batch dimension for ``batch_size=None``."""
        if self._batches.single:
            images, targets = tree.rebuilt(tensors, [leaf[0] for leaf in tree.leaves(tensors)])
            return (images, targets, keys[0]) if self._batches.keys else (images, targets)
        return (*tensors, keys) if self._batches.keys else tensors
