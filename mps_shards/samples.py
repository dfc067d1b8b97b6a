"""`ShardSamples`, a torch map-style Dataset, which reads any sample of a shard set by its number."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch.utils.data import Dataset

from mps_shards.errors import ConfigError, ShardsError
from mps_shards.reading.arguments import Shards
from mps_shards.reading.indexed_source import IndexedSource
from mps_shards.reading.read_options import ReadOptions
from mps_shards.reading.set_properties import SetProperties
from mps_shards.reading.source_opening import open_source
from mps_shards.reading.target_readers import target_reader
from mps_shards.sampling.subset import Subset
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.keyed import check_seed
from mps_shards.shards.raw_sample import RawSample
from mps_shards.vision.transforms.sample_transform import ThreadTransform, Transform, recognise

__all__ = ["ShardSamples"]

_WHITE = torch.tensor(255.0)
_MOST_BYTES = 64 << 20  # limit for the bytes of adjacent samples that one request fetches from an object store


class ShardSamples(SetProperties, Dataset[tuple[Any, Any]]):
    """A map-style data set, whose samples are read by number in the order of packing, for notebooks and samplers.

        samples = ShardSamples("imgs-shards")
        image, label = samples[0]
        train, held_out = torch.utils.data.random_split(samples, [0.9, 0.1])

    ``samples[i]`` is (image, target). image: float32 [3, height, width], RGB, 0..1, equal to torchvision's ToTensor.
    target: the class index, -1 in a set without labels; a label map, int64 [height, width]; or another target as in
    `ShardDataset`. A slice is another ShardSamples over the same set.

    Each sample is read by one ranged read. If a DataLoader requests a batch (``__getitems__``), one request reads
    adjacent samples from an object store. A ShardSamples may be used from any thread and in DataLoader workers, and may
    be pickled.

    Args:
        shards: a shard set with a manifest and an index, or a list of such sets, as for `ShardDataset`.
        transform: transform of each sample, as for `ShardDataset`. uint8 images that it returns become float32 0..1.
        seed: seed of the random numbers of the transform, which then depend on the seed and the number of the sample
            alone. Without a seed they are new in each access, from torch's generator, which a DataLoader seeds in each
            worker.
        subset: `Subset(…)`, as for `ShardDataset`.
        image, target: fields of tars that other tools wrote, as for `ShardDataset`.
        read_options: `ReadOptions(…)`, as for `ShardDataset`; scaled decoding is not available.

    Raises:
        ConfigError, ManifestError, ShardError, StorageError: an argument or the set is wrong, as far as this can be
            found without reading samples.
    """

    source: IndexedSource

    def __init__(
        self,
        shards: Shards,
        transform: Transform | tuple[Transform, ...] | None = None,
        *,
        seed: int | None = None,
        subset: Subset | None = None,
        image: str | None = None,
        target: str | None = None,
        read_options: ReadOptions = ReadOptions(),  # noqa: B008  # frozen
    ):
        check_seed(seed or 0)
        if isinstance(shards, Mapping):
            raise ConfigError("ShardSamples holds each sample once: give a list of sets, without weights")
        if read_options.decode != "exact":
            raise ConfigError("decode='scaled' is only available in ShardDataset; ShardSamples decodes exactly")
        source = open_source(shards, read_options, subset=subset, choice=FieldChoice.parsed(image, target))
        if not isinstance(source, IndexedSource):
            raise ConfigError(
                "ShardSamples needs a shard set with an index, so that any sample can be read: run 'mps-shards index' "
                "on these tars"
            )
        self.source, self.transform = source, transform
        self._transform = recognise(
            transform, task=source.task, classes=len(source.classes), ignore_index=source.ignore_index
        )
        self._seed = seed
        self._targets, _ = target_reader(source, None, max_pixels=read_options.max_pixels)
        self._numbers: Any = range(source.total) if subset is None else source.chosen()
        self._of_thread = threading.local()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> tuple[Any, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardSamples": ...
    def __getitem__(self, index: int | slice) -> "tuple[Any, Any] | ShardSamples":
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            part.__dict__.update(self.__dict__, _numbers=self._numbers[index], _of_thread=threading.local())
            return part
        return self._made(self._number(index), None)

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Return the samples of a batch for torch's DataLoader; one request reads adjacent samples of a store."""
        numbers = [self._number(index) for index in indices]
        raw: dict[int, RawSample] = {}
        if any(one.remote for one in self.source.sets):
            raw = self.source.read_runs(sorted(set(numbers)), max_bytes=_MOST_BYTES)
        return [self._made(number, raw.get(number)) for number in numbers]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[index] for index in range(len(self)))

    def key(self, index: int) -> str:
        """Return the key of a sample by a small read, without reading an image."""
        return self.source.key(self._number(index))

    @property
    def targets(self) -> list[int]:
        """The class index of each sample, -1 for none, as in torchvision's ImageFolder. Reads no images.

        Raises:
            ConfigError: the set is not for classification.
        """
        found = self.source.labels()[np.asarray(self._numbers, dtype=np.int64)].tolist()
        return list(map(int, found))

    def __repr__(self) -> str:
        classes = f", {len(self.source.classes)} classes" if self.source.classes else ""
        return f"ShardSamples({str(self.source.sets[0].folder)!r}, {self.source.task}{classes}, {len(self):,} samples)"

    def _number(self, index: int) -> int:
        """Return the number of a sample over all sets. Raises IndexError or TypeError, as a list does."""
        if not hasattr(index, "__index__"):
            raise TypeError(
                f"samples are read by number, not by {index!r}: use samples[3], samples[2:9], or "
                "torch.utils.data.Subset(samples, [1, 5]); subset=Subset(keys=[…]) chooses samples by key"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} does not exist: there are {len(self)} samples")
        return int(self._numbers[index])

    def _made(self, number: int, raw: RawSample | None) -> tuple[Any, Any]:
        """Return a sample, which is read now unless `raw` is given."""
        source = self.source
        try:
            raw = raw or source.read(number)
            image, target = self._targets.decoded(raw, self._targets.opened(raw, source.task))
        except ShardsError as error:
            error.add_note(f"in sample {number} of shard {source.name(number).shard}")
            raise
        try:
            image, target = self._applied(image, target, number)
        except Exception as error:
            error.add_note(f"in the transform, given {raw}")
            raise
        return _floated(image), _widened(target)

    def _applied(self, image: torch.Tensor, target: Any, number: int) -> tuple[Any, Any]:
        if not self._transform.adapters:
            return image, target
        transform = getattr(self._of_thread, "transform", None)
        if transform is None:  # one for each thread, because its random generator is set for each sample
            transform = self._of_thread.transform = ThreadTransform(self._transform, seed=self._seed or 0)
        draw = 0 if self._seed is not None else int(torch.empty((), dtype=torch.int64).random_())
        made: tuple[Any, Any] = transform(image, target, draw, number)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_of_thread"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _of_thread=threading.local())


def _floated(image: Any) -> Any:
    """Return an image, or a tuple of several views, as float32, with ToTensor's division for uint8."""
    if isinstance(image, tuple):
        return tuple(map(_floated, image))
    if image.dtype == torch.uint8:
        return torch.div(image.contiguous(), _WHITE)
    return image


def _widened(target: Any) -> Any:
    """Return a target as in batches, where label maps and other integer tensors are int64."""
    if isinstance(target, torch.Tensor) and not target.is_floating_point():
        return target.long()
    return target
