"""`ShardDataset`: a shard set as a torch IterableDataset, assembled from webdataset pipeline stages."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from webdataset.filters import map as map_stage
from webdataset.filters import select as select_stage
from webdataset.pipeline import DataPipeline

from mps_shards.batching.host_batch import ImageFormat
from mps_shards.errors import ConfigError, ResumeMismatch
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.reading.bad_samples import Policy, SkipRules
from mps_shards.reading.epoch_iteration import BatchOptions, EpochIteration, Start
from mps_shards.reading.sample_maker import SampleOptions, is_scaled
from mps_shards.reading.sample_sources import REMOTE_BYTES, Request, Source, expanded, open_source
from mps_shards.sampling.cursor import Cursor, check_resume
from mps_shards.sampling.epoch_progress import Progress, ReadState
from mps_shards.sampling.order import Shuffle
from mps_shards.sampling.rank import Place, torch_worker
from mps_shards.sampling.rank_sharding import Deal, Remainder
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.keyed import check_seed
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.location import locate
from mps_shards.vision.decoding import MAX_PIXELS
from mps_shards.vision.normalization import Normalize
from mps_shards.vision.transforms import classify
from mps_shards.vision.transforms.sample_transform import Transform, recognise

__all__ = ["ShardDataset"]

_OWN_STAGES = 2  # of the pipeline; what users add comes behind them

Shards = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class ShardDataset(DataPipeline):  # type: ignore[misc]  # webdataset ships stubs without this base's types
    """Batches of a shard set, in an order that depends on nothing but the set, `seed` and `epoch`.

    Yields (images float32 [batch, 3, height, width], RGB, 0..1; targets int64 [batch], or masks int64 [batch, height,
    width]); with `keys` also the list of keys. Targets are -1 where a set has no labels. Images are, bit for bit, what
    torchvision's ToTensor gives for Pillow's RGB image (after `transform`, which works on uint8).

    Every rank gets its share of each global batch; more ranks or workers than shards is normal. Works alone, in
    `DeviceLoader`, and in ``DataLoader(dataset, batch_size=None, num_workers=n)``, with the same batches. Call
    `set_epoch` before each epoch for a new order.

    A sample that `on_bad_sample` skips keeps its position, so its batch is shorter and ranks stay in step. A step all
    of whose samples are skipped is left out where one rank reads in one process, else it is an error, since ranks or
    workers would no longer agree on how many steps there are.

    Args:
        shards: a directory with a manifest, tars of one, a brace pattern, foreign tars; or a list. Several sets are
            mixed: an epoch holds as many samples as they have together.
        batch_size: samples of a batch on this rank; None yields single samples without the batch dimension.
        transform: one of `classify` or `segment`; any transform of torchvision (v1 or v2) or albumentations; or a
            callable with the arguments (image), (image, target) or (image, target, rng) that gets an image uint8
            [3, height, width]. A tuple of transforms gives a view for each of them: images are a tuple of batches. What
            a transform draws, also from torch's, NumPy's and Python's global generators, depends on (seed, epoch,
            position, view) alone. The image may come back as uint8 (0..255) or float32 (left as it is).
        views: how often each image is transformed; more than 1 yields a tuple of batches of images.
        shuffle: True, or a `Shuffle` with other distances. Foreign tars are shuffled through a buffer.
        remainder: the last samples, where they do not give every rank one: "pad" repeats the epoch's first samples,
            "drop" leaves them out, "keep" delivers each exactly once, so ranks may differ by one.
        drop_last: leave out a last batch that is not full.
        place: overrides the detected rank and world size (see `Place.detect`).
        on_bad_sample: for a sample that cannot be read or decoded: "raise", "skip", or a callable that is given the
            error and returns True to skip it, in webdataset's convention for handlers (called by many threads).
            Of a damaged foreign tar the rest is skipped.
        max_bad: how many may be skipped: a share of this rank's samples of an epoch (0.1), a count (20), None for
            any number; more are an error. Each worker of a DataLoader counts by itself, a share is of its own samples.
        bad_sample_log: a file that gets a line of JSON for each skipped sample. All ranks and workers may share it.
        verify_reads: compare the CRC-32 of every sample that is read with the index; one that differs is a bad sample.
        max_pixels: of an image or a mask; a larger one is a bad sample, before memory is taken for it.
        weights: of several sets, relative; by default their sizes, which gives each sample once.
        remote_bytes: of samples from stores that each iterating process may hold in memory ahead of need. A shuffled
            reader needs a window of them (see `Shuffle`) or makes more and smaller requests.
        cache: a folder where whole shards are kept, also those of a slow disk; all processes of a machine may share it.
        cache_bytes: of it, at most; what was opened longest ago is deleted first.
        index: the folder with these tars' manifest and index, where `mps-shards index --out` wrote them.
        image, target: fields of other people's tars: ``"jpg;png;webp"``; ``"cls"``, ``"json:label"``, ``"seg.png"``,
            ``"none"``. Alternatives by ";", the first that a sample holds counts. What is not named is what the set's
            manifest records, or else guessed; a sample that leaves it in doubt is a bad sample.
        decode: "scaled" decodes a JPEG at 1/2, 1/4 or 1/8 of its size where what the transform shows is smaller still:
            faster for large photographs, and no longer exact (README has the error: mean 0.4 to 1.5 of 255).
        normalize: "imagenet", "inception", "clip", or (mean, std) of the channels: ``(x - mean) / std`` after ToTensor,
            on the device if there is one. The transform must then return uint8.
        mix: `classify.mix(…)`: MixUp or CutMix of each batch, on the device; labels become shares of the classes.
        pad: batches of unequal images, each padded at the right and the bottom to the largest, rounded up to a
            multiple of this; targets become (targets, sizes), sizes int64 [batch, 2] being heights and widths before.
        channels_last: images lie in memory as torch.channels_last.

    Raises:
        ConfigError, ManifestError, ShardError, StorageError: at once, where they can be known without reading samples.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        batch_size: int | None,
        transform: Transform | Sequence[Transform] | None = None,
        views: int = 1,
        shuffle: bool | Shuffle = False,
        seed: int = 0,
        epoch: int = 0,
        remainder: Remainder = "pad",
        drop_last: bool = False,
        place: Place | None = None,
        on_bad_sample: Policy = "raise",
        keys: bool = False,
        max_bad: float | int | None = 0.1,
        bad_sample_log: str | os.PathLike[str] | None = None,
        verify_reads: bool = False,
        max_pixels: int = MAX_PIXELS,
        weights: Sequence[float] | None = None,
        remote_bytes: int = REMOTE_BYTES,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        index: str | os.PathLike[str] | None = None,
        image: str | None = None,
        target: str | None = None,
        decode: Literal["exact", "scaled"] = "exact",
        normalize: Normalize | None = None,
        mix: classify.mix | None = None,
        pad: int | None = None,
        channels_last: bool = False,
    ):
        check_seed(seed, epoch)
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise ConfigError(f"batch_size must be at least 1, or None for single samples, not {batch_size!r}")
        if remainder not in ("pad", "drop", "keep"):
            raise ConfigError(f"remainder must be 'pad', 'drop' or 'keep', not {remainder!r}")
        if batch_size is None and (mix is not None or pad is not None):
            raise ConfigError("mix and pad are for batches: give a batch_size")
        if pad is not None and pad < 1:
            raise ConfigError(f"pad is the multiple that sizes are rounded up to, at least 1, not {pad}")
        self._batch_options = BatchOptions(
            single=batch_size is None,
            keys=keys,
            image_format=ImageFormat.parse(normalize=normalize, channels_last=channels_last),
            mix=mix,
            pad=pad,
        )
        mixing = Shuffle() if shuffle is True else shuffle or None
        self.batch_size, self.transform, self.seed, self.remainder = batch_size, transform, seed, remainder
        self.drop_last, self.place, self.max_pixels = drop_last, place, max_pixels
        self._rules = SkipRules(on_bad_sample, max_bad=max_bad, log=bad_sample_log)
        self.source: Source = open_source(
            locate(expanded(shards), index=index),
            weights=weights,
            shuffle=mixing,
            verify=verify_reads,
            remote_bytes=remote_bytes,
            cache=Cache.open(cache, cache_bytes),
            choice=FieldChoice.parsed(image, target),
        )
        self._sample_transform = recognise(
            transform,
            views=views,
            task=self.source.task,
            classes=len(self.source.classes),
            ignore_index=self.source.ignore_index,
        )
        self.scaled = is_scaled(decode, self._sample_transform, self.source.task)
        self._fingerprint = {
            **self.source.fingerprint,
            "samples": self.source.samples,
            "seed": seed,
            "shuffle": None if mixing is None else [mixing.block, mixing.lanes, mixing.window],
            "remainder": remainder,
        }
        self._state = ReadState(Progress(epoch))
        self._told: Place | None = None
        self._told_to = 0
        self._exact_length = True
        super().__init__(self._iterations, self._batches)

    # Iterating

    def __iter__(self) -> Iterator[Any]:
        """An iteration, which begins with its first batch: `set_epoch` may still be called until then."""
        self._state.new_iteration()
        return iter(super().__iter__())

    def iteration(self) -> EpochIteration:
        """An iteration as `DeviceLoader` runs it, which begins with its first batch.

        From now on `state_dict` gives its start: torchdata asks for that at once.
        """
        return EpochIteration(
            self.source,
            samples=SampleOptions(transform=self._sample_transform, max_pixels=self.max_pixels, scaled=self.scaled),
            batches=self._batch_options,
            rules=self._rules,
            fingerprint=self._fingerprint,
            state=self._state,
            start=self._begun,
        )

    def apply_stages(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches after what `map`, `select` and `compose` added."""
        for stage in self.pipeline[_OWN_STAGES:]:
            batches = self.invoke(stage, batches)
        return batches

    def _begun(self) -> Start:
        """Fix epoch, start and rank of the iteration that begins."""
        start = self._start(self._state.progress.begin)
        self._state.own = None
        return start

    def _start(self, ask: Callable[..., tuple[int, int]]) -> Start:
        place, in_worker = self._place_here()
        epoch, start = ask(place, in_worker=in_worker)
        own = self._state.own
        worker = place.worker if in_worker else None
        if own is not None:  # this worker's own next batch is the first of its new count, and then every W-th
            epoch, start = own.epoch, own.position
            place = Place(rank=place.rank, world=place.world, worker=0, workers=place.workers)
        return Start(self._request(place, epoch, start), worker)

    def _iterations(self) -> Iterator[EpochIteration]:
        iteration = self.iteration()
        iteration.begin()
        yield iteration

    def _batches(self, iterations: Iterator[EpochIteration]) -> Iterator[Any]:
        """The batches of each iteration, made in this thread; the cursor moves as each is handed out."""
        for iteration in iterations:
            make = iteration.sample_maker(StageTimes())
            for plan in iteration.plans():
                batch = iteration.new_batch(plan, _host_memory, torch.float32)
                for row, sample in enumerate(make(plan, 0, len(plan))):
                    if sample is None:
                        batch.skip(row)
                    else:
                        batch.put(row, sample)
                batch.complete()
                tensors = batch.rebuilt(batch.leaves) if batch.rows else None
                content = iteration.deliver(plan, tensors, batch.keys)
                if content is not None:
                    yield content
            iteration.end()

    def __len__(self) -> int:
        """Batches (samples, for ``batch_size=None``) of a whole epoch on this rank, over all its workers.

        Raises:
            TypeError: not known: foreign tars, or a data set with `select`.
        """
        if self.source.samples is None or not self._exact_length:
            why = "a selection has" if self.source.samples is not None else "tars without a manifest have"
            raise TypeError(f"{why} no length that is known before the end")
        return self._deal(0).steps

    @property
    def skipped(self) -> SkipReport:
        """What the current iteration left out so far, or the last one; but not that of a DataLoader's workers."""
        return self._state.bad.report() if self._state.bad is not None else SkipReport()

    # Position

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be of this epoch, from its start; also in workers that are running.

        For the epoch that is set already, nothing changes: a position that was loaded into it is kept.
        """
        check_seed(self.seed, epoch)
        if epoch != self._state.progress.epoch:
            self._state.move(epoch, 0)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """A cursor after the last batch that was handed out, as plain values (JSON-able, under 1 kB).

        After the last batch of an epoch it stands at that epoch's end: going on yields nothing more of it. Once the
        iteration has ended, as a ``for`` loop does, it stands at the start of the next epoch.

        Args:
            batches: instead, the cursor after this many batches of the running iteration: for a plain DataLoader with
                workers, whose main process knows only how many it received.

        Raises:
            ConfigError: a DataLoader's workers made the batches, so the cursor is not known here without `batches`.
        """
        progress = self._state.progress
        if batches is not None:
            start = progress.current_start()
            return self._cursor(progress.epoch, self._deal(start).after(batches - 1) if batches else start).state()
        if torch_worker() is None and progress.in_workers():
            raise ConfigError(
                "a DataLoader's workers made the batches, and this process does not know how many were used: save "
                "state_dict(batches=n) after n of them, or use DeviceLoader or torchdata's StatefulDataLoader"
            )
        upcoming = self._start(progress.upcoming)
        samples = self.source.samples
        return (self._state.live or upcoming.first_cursor(samples=samples, fingerprint=self._fingerprint)).state()

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Let the next iteration go on behind the cursor in `state`; batch size and world size may have changed.

        Args:
            strict: False resumes at the cursor's position although seed, shuffle, remainder or data set differ, with a
                warning that names what does. Samples may then be seen twice or not at all.

        Raises:
            ResumeMismatch: naming what differs, with both values.
        """
        cursor = Cursor.from_state(state)
        differences = check_resume(cursor, self._fingerprint, samples=self.source.samples, strict=strict)
        if differences:
            warnings.warn(f"resuming although {'; '.join(differences)}", stacklevel=2)
        place, in_worker = self._place_here()
        step = (self.batch_size or 1) * place.world
        here = (place.worker, place.workers, step) if in_worker else None
        if cursor.worker is None and here is None:
            self._state.move(cursor.epoch, cursor.position)
            return
        if cursor.worker is None:
            cursor = replace(cursor, position=cursor.position + place.worker * step, worker=here)
        elif cursor.worker != here:
            saved = "worker {} of {} with {} samples a step".format(*cursor.worker)
            found = "worker {} of {} with {} samples a step".format(*here) if here else "no worker"
            raise ResumeMismatch(
                f"this is the state of DataLoader {saved} (over all ranks), here is {found}; keep num_workers and "
                "batch size times ranks, or save dataset.state_dict(batches=n) in the main process instead"
            )
        # for this worker alone: what the main process says of the next epochs must reach it all the same
        self._state.move_worker(cursor)

    # As webdataset has them

    def compose(self, *stages: Any) -> Self:
        """This data set with further stages behind it; both share one position."""
        composed = type(self).__new__(type(self))
        composed.__dict__.update(self.__dict__)
        composed.pipeline = [*self.pipeline, *stages]
        return composed

    def map(self, function: Callable[[Any], Any]) -> Self:
        """This data set with `function` applied to each item that it yields (on the device, in `DeviceLoader`)."""
        return self.compose(map_stage(function))

    def select(self, predicate: Callable[[Any], bool]) -> Self:
        """This data set with only the items for which `predicate` is true; its length is not known."""
        selected = self.compose(select_stage(predicate))
        selected._exact_length = False
        return selected

    def close(self) -> None:
        """Close open files. The data set can be used again."""
        self.source.close()

    def __repr__(self) -> str:
        samples = "?" if self.source.samples is None else f"{self.source.samples:,}"
        return f"ShardDataset({samples} samples, batch_size={self.batch_size}, {self._place_here()[0]})"

    def __getstate__(self) -> dict[str, Any]:
        # a spawned DataLoader worker has no process group to ask, so it is told its place
        return {**self.__dict__, "_told": Place.detect()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._told_to = os.getpid()

    def _place_here(self) -> tuple[Place, bool]:
        """Our share, and whether that is one of a DataLoader's workers."""
        in_worker = torch_worker() is not None
        # a rank that was spawned with this data set must ask for itself, and so must the workers that it forks
        told = self._told if in_worker and self._told_to == os.getpid() else None
        return (self.place or told or Place.detect()).in_torch_worker(), in_worker

    def _deal(self, start: int) -> Deal:
        """All batches of this rank, whichever worker makes them."""
        place = self._place_here()[0]
        return self._request(Place(rank=place.rank, world=place.world), 0, start).deal(self.source.samples)

    def _request(self, place: Place, epoch: int, start: int) -> Request:
        """What `source` is asked for."""
        return Request(
            seed=self.seed,
            epoch=epoch,
            start=start,
            batch=self.batch_size or 1,
            place=place,
            remainder=self.remainder,
            drop_last=self.drop_last,
        )

    def _cursor(self, epoch: int, position: int) -> Cursor:
        return Cursor(epoch=epoch, position=position, fingerprint=self._fingerprint)


def _host_memory(nbytes: int) -> torch.Tensor:
    return torch.empty(nbytes, dtype=torch.uint8)
