"""`ShardDataset`, a torch IterableDataset over shard sets, assembled from webdataset's pipeline stages."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NoReturn, Self

import torch
from webdataset.filters import map as map_stage
from webdataset.filters import select as select_stage
from webdataset.pipeline import DataPipeline

from mps_shards.errors import ConfigError
from mps_shards.metrics import SkipReport, StageTimes, html_table
from mps_shards.reading.arguments import (
    Shards,
    check_arguments,
    chosen_fields,
    plain_integer,
    shown,
    warn_of_no_batches,
)
from mps_shards.reading.bad_samples import Policy, SkipRules
from mps_shards.reading.collate import Collate
from mps_shards.reading.description import described, facts
from mps_shards.reading.epoch_iteration import BatchOptions, EpochIteration
from mps_shards.reading.read_options import ReadOptions
from mps_shards.reading.read_position import ReadPosition, SampleSequence
from mps_shards.reading.rendering import log_inexact_resizing
from mps_shards.reading.sample_maker import SampleOptions, is_scaled
from mps_shards.reading.sample_sources import Source
from mps_shards.reading.set_properties import SetProperties
from mps_shards.reading.source_opening import open_source
from mps_shards.reading.target_readers import target_reader
from mps_shards.reading.whole_batches import whole_batch
from mps_shards.sampling.balance import Balance
from mps_shards.sampling.epoch_progress import Progress
from mps_shards.sampling.order import Shuffle
from mps_shards.sampling.rank import Share
from mps_shards.sampling.rank_sharding import Remainder
from mps_shards.sampling.subset import Subset
from mps_shards.shards.keyed import check_seed
from mps_shards.vision.normalization import Normalize
from mps_shards.vision.transforms.sample_transform import Transform, recognise

__all__ = ["ShardDataset"]

_OWN_STAGES = 2  # stages of the pipeline before those of users: the iterations, and the batches of each


def _unsupported(name: str, instead: str) -> Callable[..., NoReturn]:
    """Return a method that replaces an unsupported method of webdataset's pipelines and raises ConfigError."""

    def method(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise ConfigError(f"ShardDataset has no {name}(): {instead}")

    method.__name__, method.__doc__ = name, f"Not supported: {instead}."
    return method


class ShardDataset(SetProperties, DataPipeline):  # type: ignore[misc]  # webdataset ships no types
    """An iterable data set over the batches of a shard set, in an order that depends only on set, seed and epoch.

        augment = classify.train(224)
        data = ShardDataset("imgs-shards", batch_size=64, transform=augment)
        for images, labels in data: ...

    It yields (images, targets), and with ``keys=True`` also the list of keys. images: float32 [batch, 3, height,
    width], RGB, 0..1. targets depend on the task of the set: class indices int64 [batch], -1 in a set without labels;
    label maps int64 [batch, height, width]; several classes per sample as float32 [batch, classes] of 0 and 1; numbers
    as float32 [batch, columns]; captions as a list of str. After `transform`, images are bit for bit the result of
    torchvision's ToTensor for Pillow's RGB image.

    The batches are the same if the data set is used alone, in `DeviceLoader`, in
    ``DataLoader(data, batch_size=None, num_workers=n)`` or in torchdata's StatefulDataLoader. Every rank gets its share
    of each global batch. There may be more ranks or workers than shards.

    Epochs advance automatically. After an iteration has delivered a batch, the next iteration reads the next epoch,
    with a new order and new augmentation, whether the earlier one was exhausted or ended by `break` or an exception. Of
    two simultaneous iterations, the one that begins second reads the next epoch. `set_epoch` and `load_state_dict` take
    precedence. With ``shuffle=False`` the order is always that of packing, so that evaluation is repeatable.

    A skipped sample keeps its position, so that its batch is shorter, and all ranks have the same number of batches. A
    batch whose samples are all skipped is omitted; with several ranks or DataLoader workers this is an error, because
    their numbers of batches would differ.

    Args:
        shards: a folder with a manifest, some of its tars, a brace pattern, tars without a manifest, or a list of
            these. Several sets are mixed; an epoch has as many samples as they have together. A mapping
            ``{"set-a": 3, "set-b": 1}`` mixes them by these weights instead of by their sizes.
        batch_size: number of samples of a batch on this rank. None yields single samples without the batch dimension.
        transform: one of `classify` or `segment`, any transform of torchvision (v1 or v2) or albumentations, or a
            callable with the arguments (image), (image, target) or (image, target, rng). It gets an image uint8
            [3, height, width] and may return uint8 or float32. Its random numbers, also those from the global
            generators of torch, NumPy and Python, depend on (seed, epoch, position, view) alone. A tuple of transforms
            returns one view for each transform, so that images are a tuple of batches.
        views: number of times that each image is transformed. More than 1 yields images as a tuple of batches.
        shuffle: True, or `Shuffle(…)` to set how far samples move. Tars without a manifest are shuffled in a buffer.
        seed: seed of the order and of the augmentation.
        epoch: number of the first epoch; 0 by default.
        rank, world_size: rank of this process, and number of ranks; by default detected from torch.distributed or the
            launcher's environment.
        remainder: handling of the last samples of an epoch if there are not enough for every rank: "pad" fills up with
            the epoch's first samples, "drop" leaves the last samples out, "keep" lets ranks differ by one sample.
        drop_last: whether a last batch that is not full is left out.
        on_bad_sample: handling of a sample that cannot be read or decoded: "raise", "skip", a callable that gets the
            error and returns True to skip the sample, or `SkipRules(…)` for other limits and a log. If a tar without a
            manifest is damaged, all its remaining samples are skipped.
        keys: whether the keys of the samples are yielded as well.
        normalize: "imagenet", "inception", "clip", or (means, standard deviations) of the channels, applied as
            ``(x - mean) / std`` after ToTensor, on the device if there is one. The transform must then return uint8.
        image, target: fields of tars that other tools wrote, such as ``image="jpg;png"`` and ``target="cls"``,
            ``"json:label"``, ``"seg.png"`` or ``"none"``. Of several alternatives, the first one that a sample holds is
            taken. By default, the fields are those that the manifest records, or they are guessed if only one guess is
            possible.
        fields: yield a dict of several values by name, such as
            ``{"image": "jpg", "caption": "txt", "age": "json:age"}``. The kinds of fields are "cls" (class index),
            "txt" (list of str), "json:key" (a number as float32, a list of numbers as float32 [batch, n], or a text as
            list of str), "json:key:int" (int64), "npy" (an array), and a label map such as "mask.png".
        subset: `Subset(…)`, which keeps some classes, a fraction, a fold, some samples of each class, or some keys.
        balance: "classes" uses each class equally often, and ``{"cat": 1, "dog": 3}`` by these weights; `Balance(…)`
            has further options, such as weights of samples. In an epoch, the numbers of uses of samples of the same
            class differ by at most one. The length of an epoch stays the same.
        collate: `Collate(…)`, with options for padding, MixUp and CutMix, and memory layout.
        read_options: `ReadOptions(…)`, with options for caches, checks, object stores and scaled decoding.

    Raises:
        ConfigError, ManifestError, ShardError, StorageError: an argument or the set is wrong, as far as this can be
            found without reading samples.
    """

    def __init__(
        self,
        shards: Shards,
        *,
        batch_size: int | None,
        transform: Transform | tuple[Transform, ...] | None = None,
        views: int = 1,
        shuffle: bool | Shuffle = False,
        seed: int = 0,
        epoch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        remainder: Remainder = "pad",
        drop_last: bool = False,
        on_bad_sample: Policy | SkipRules = "raise",
        keys: bool = False,
        normalize: Normalize | None = None,
        image: str | None = None,
        target: str | None = None,
        fields: Mapping[str, str] | None = None,
        subset: Subset | None = None,
        balance: Literal["classes"] | Mapping[str, float] | Balance | None = None,
        collate: Collate = Collate(),  # noqa: B008  # frozen
        read_options: ReadOptions = ReadOptions(),  # noqa: B008
    ):
        batch_size, seed, epoch = map(plain_integer, (batch_size, seed, epoch))
        check_seed(seed, 0 if epoch is None else epoch)
        check_arguments(batch_size, shuffle, remainder, collate, subset, read_options, drop_last=drop_last, keys=keys)
        choice = chosen_fields(image, target, fields, collate)
        mixing = Shuffle() if shuffle is True else shuffle or None
        self.shards, self.batch_size, self.transform, self.seed = shards, batch_size, transform, seed
        self._batch_options = BatchOptions.of(
            collate, single=batch_size is None, keys=keys, fields=fields, normalize=normalize
        )
        self._rules = SkipRules.of(on_bad_sample)
        self.source = open_source(
            shards, read_options, shuffle=mixing, subset=subset, balance=Balance.of(balance), choice=choice
        )
        self._samples = _sample_options(self.source, transform, views=views, fields=fields, reading=read_options)
        sequence = SampleSequence.of(
            self.source, mixing, seed=seed, batch_size=batch_size or 1, remainder=remainder, drop_last=drop_last
        )
        share = Share.given(rank, world_size)
        self.position = ReadPosition(sequence, Progress(epoch or 0), share, workers_skip=self._rules.policy != "raise")
        self._exact_length = True
        warn_of_no_batches(self.position)
        super().__init__(self._iterations, self._batches)

    # Iterating

    def __iter__(self) -> Iterator[Any]:
        """Return a new iteration. It begins with its first batch, so `set_epoch` may be called until then."""
        self.position.new_iteration()
        return iter(super().__iter__())

    def iteration(self) -> EpochIteration:
        """Return a new iteration for `DeviceLoader`. `state_dict` returns its start until it delivers a batch."""
        return EpochIteration(
            self.source,
            samples=self._samples,
            batches=self._batch_options,
            rules=self._rules,
            position=self.position,
        )

    def apply_stages(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Return the batches after the stages that `map`, `select` and `compose` added."""
        for stage in self.pipeline[_OWN_STAGES:]:
            batches = self.invoke(stage, batches)
        return batches

    def _iterations(self) -> Iterator[EpochIteration]:
        iteration = self.iteration()
        iteration.begin()
        yield iteration

    def _batches(self, iterations: Iterator[EpochIteration]) -> Iterator[Any]:
        """Yield the batches of each iteration, made in this thread; the cursor moves with each batch."""
        for iteration in iterations:
            make = iteration.sample_maker(StageTimes())
            for plan in iteration.plans():
                batch = iteration.new_batch(plan, _host_memory, torch.float32)
                make(batch, 0, len(plan))
                batch.complete()
                tensors = batch.rebuilt(batch.leaves) if batch.rows else None
                content = iteration.deliver(plan, tensors, batch.keys)
                if content is not None:
                    yield content if self.batch_size is None else whole_batch(content)
            iteration.end()

    def __len__(self) -> int:
        """Return the number of batches (or samples, for ``batch_size=None``) of an epoch on this rank.

        ``len(DataLoader(data, batch_size=None))`` returns this number, too. The number of samples is `num_samples`.

        Raises:
            TypeError: the number is not known before the end, as for tars without a manifest, and after `select`.
        """
        if self.source.samples is None or not self._exact_length:
            what = "after select()" if self.source.samples is not None else "of tars without a manifest"
            raise TypeError(f"the number of batches {what} is not known before the end of an epoch")
        return len(self.position)

    # What the set holds

    @property
    def columns(self) -> list[str]:
        """Names of the numbers that are the target of a regression set. Empty for other tasks."""
        return list(self.source.columns)

    @property
    def num_samples(self) -> int | None:
        """Number of samples of an epoch, over all ranks; None if it is not known before the end."""
        return self.source.samples

    @property
    def skipped(self) -> SkipReport:
        """The samples that the current or last iteration skipped so far.

        With DataLoader workers, the main process gets the number of all skipped samples, and the first of each worker.
        """
        return self.position.skips()

    # Position

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration read this epoch from its start, also in DataLoader workers that are running.

        If the next iteration reads this epoch anyway, nothing changes, so that a loaded position is kept.
        """
        check_seed(self.seed, epoch)
        self.position.set_epoch(epoch)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Return the state after the last delivered batch, as plain values for JSON of less than 1 kB.

        After an iteration is exhausted, the state is the start of the next epoch.

        Args:
            batches: return the state after this number of batches of the running iteration instead. A plain DataLoader
                with workers needs this, because only the training loop knows how many batches it has used.

        Raises:
            ConfigError: DataLoader workers made the batches, so `batches` must be given.
        """
        return self.position.state(batches).state()

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Let the next iteration continue after the batch of `state`. Batch size and world size may have changed.

        Args:
            state: result of `state_dict`.
            strict: False resumes at the same position even if seed, shuffle, remainder or data set differ, and warns
                about the differences. Samples may then be seen twice or not at all.

        Raises:
            ResumeMismatch: the state belongs to another sequence; the message names each difference with both values.
        """
        self.position.load(state, strict=strict)

    # Stages, as in webdataset

    def compose(self, *stages: Any) -> Self:
        """Return a data set with further pipeline stages at the end, which shares the position of this one."""
        composed = type(self).__new__(type(self))
        composed.__dict__.update(self.__dict__)
        composed.pipeline = [*self.pipeline, *stages]
        return composed

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Return a data set that applies a function to each batch; in `DeviceLoader`, to batches on the device."""
        return self.compose(map_stage(function))

    def select(self, predicate: Callable[[Any], bool]) -> Self:
        """Return a data set with only the batches for which `predicate` is true, so that its length is unknown."""
        selected = self.compose(select_stage(predicate))
        selected._exact_length = False
        return selected

    with_epoch = _unsupported("with_epoch", "take fewer batches of an epoch with itertools.islice(data, n)")
    repeat = _unsupported("repeat", "iterate several times, because each iteration reads the next epoch")
    with_length = _unsupported("with_length", "len(data) is already exact")
    shuffle = _unsupported("shuffle", "pass shuffle=True or shuffle=Shuffle(window=…) to ShardDataset")
    batched = _unsupported("batched", "pass batch_size= to ShardDataset")
    decode = _unsupported("decode", "samples are already decoded; image=, target= and fields= choose what is read")
    to_tuple = _unsupported("to_tuple", "the data set yields (images, targets); fields= names other values")
    __getitem__ = _unsupported(
        "__getitem__",
        "use ShardSamples to read samples by number, for random_split and samplers, or subset=Subset(…) to split a set",
    )
    append = _unsupported("append", "use map(), select() or compose(), which return a new data set")

    def preview(self, count: int = 8, *, times: int = 3) -> Any:
        """Return a Pillow image that shows random samples, each as it is stored and after the transform.

        Args:
            count: number of samples.
            times: how often each sample is transformed.

        Raises:
            ConfigError: the tars have no index, so that their samples cannot be read one by one.
        """
        from mps_shards.inspect.gallery import preview_of  # imported here, because it is a layer above this module

        return preview_of(self, count=count, times=times)

    def __repr__(self) -> str:
        return described(facts(self, shown(self.shards)))

    def _repr_html_(self) -> str:
        return html_table(facts(self, shown(self.shards)))


def _sample_options(
    source: Source,
    transform: Transform | tuple[Transform, ...] | None,
    *,
    views: int,
    fields: Mapping[str, str] | None,
    reading: ReadOptions,
) -> SampleOptions:
    """Return the options for decoding and transforming the samples of a source."""
    targets, task = target_reader(source, fields, max_pixels=reading.max_pixels)
    sample_transform = recognise(
        transform, views=views, task=task, classes=len(source.classes), ignore_index=source.ignore_index
    )
    log_inexact_resizing(sample_transform)
    return SampleOptions(
        transform=sample_transform,
        targets=targets,
        max_pixels=reading.max_pixels,
        scaled=is_scaled(reading.decode, sample_transform, task),
    )


def _host_memory(nbytes: int) -> torch.Tensor:
    return torch.empty(nbytes, dtype=torch.uint8)
