"""One batch being assembled in host memory: rows written by workers in any order, delivered as one block a leaf.

ToTensor happens here, where the pixels are still in the cache, when the batch stays on the CPU: ``x / 255`` in
float32. (``x * (1 / 255)`` differs on 126 of 256 values, as does torchvision's ``ToDtype(scale=True)``.) For a device
the pixels stay uint8, a quarter of the bytes, and the division is the engine's.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from mps_shards.batching import tree
from mps_shards.batching.tensor_layout import Leaf, pixel_leaf, target_leaf, unequal
from mps_shards.errors import ConfigError

__all__ = ["HostBatch", "ImageFormat", "Sample"]

_ALIGN = 64  # of each leaf within a slot: a cache line
_WHITE = torch.tensor(255.0)  # a tensor: torch makes one of a number, each time


class Sample(NamedTuple):
    """A finished sample.

    Attributes:
        image: uint8 or float32 tensor, or a tree of such; uint8 is pixels, 0..255.
        target: a whole number, an integer or float32 tensor, or a tree of such.
    """

    image: Any
    target: Any
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """What images look like in a batch, apart from their size.

    Attributes:
        normalize: mean and standard deviation, each float32 (3, 1, 1), applied to float32 pixels as torchvision's
            `normalize` does: ``(x - mean) / std``.
        channels_last: images lie as (batch, height, width, 3) in memory, whatever their shape says.
    """

    normalize: tuple[torch.Tensor, torch.Tensor] | None = None
    channels_last: bool = False

    @classmethod
    def parse(cls, *, normalize: tuple[Sequence[float], Sequence[float]] | None, channels_last: bool) -> "ImageFormat":
        """An image format from what users give: mean and standard deviation as three numbers each.

        Raises:
            ConfigError: they are not three, or a standard deviation is not positive.
        """
        if normalize is None:
            return cls(channels_last=channels_last)
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in normalize)
        if len(mean) != 3 or len(std) != 3 or not bool((std > 0).all()):
            raise ConfigError(f"normalize takes three means and three positive standard deviations, not {normalize!r}")
        return cls(normalize=(mean, std), channels_last=channels_last)


class _Usual(NamedTuple):
    """Samples of an image and a number: what their images are like, where rows go, and whether they are converted."""

    shape: torch.Size
    dtype: torch.dtype
    images: list[torch.Tensor]
    targets: list[int]
    converts: bool


class HostBatch:
    """Rows of one batch. `put` and `skip` may be called from any thread, once a row; the rest after the last of them.

    Args:
        rows: how many samples it is to hold.
        allocate: bytes -> uint8 tensor of at least that size, on the host; called once, at the first `put`.
        pixels: dtype of pixels in memory: float32 to convert here, uint8 to leave that to an engine.
        image_format: what else is done to images, by whoever converts them.

    Attributes:
        keys: of the samples, in order.
        leaves: one tensor a leaf, (rows, …), views of the allocated memory.
        pixel_leaves: how many of them, from the first on, hold images.
    """

    def __init__(
        self,
        rows: int,
        allocate: Callable[[int], torch.Tensor],
        *,
        pixels: torch.dtype,
        image_format: ImageFormat = ImageFormat(),
    ):
        self.rows, self.image_format = rows, image_format
        self.keys: list[str] = [""] * rows
        self.leaves: list[torch.Tensor] = []
        self.pixel_leaves = 0
        self.nbytes = 0
        self._allocate, self._pixels = allocate, pixels
        self._lock = threading.Lock()
        self._layout: list[Leaf] | None = None
        self._model: Any = None  # the structure of a sample
        self._usual: _Usual | None = None
        self._places: list[Any] = []  # for each leaf, its rows
        self._first = ""
        self._holes: list[int] = []

    def put(self, row: int, sample: Sample) -> None:
        """Write a sample into its row.

        Raises:
            ConfigError: its shapes differ from those of another sample of the batch, or a dtype cannot be delivered.
        """
        image, target, key = sample
        usual = self._usual
        if (
            usual is not None
            and type(target) is int
            and type(image) is torch.Tensor
            and image.dtype is usual.dtype
            and image.shape == usual.shape
        ):  # like the first: a tensor and a number, all that most samples are
            self.keys[row] = key
            usual.targets[row] = target
            if usual.converts:
                self._convert(image, usual.images[row])
            else:
                usual.images[row].copy_(image)
            return
        leaves = self._checked(sample)
        self.keys[row] = key
        for leaf, places in zip(leaves, self._places, strict=True):
            place = places[row]
            if not isinstance(place, torch.Tensor):
                places[row] = leaf
            elif leaf.dtype == torch.uint8 and place.dtype == torch.float32:
                self._convert(leaf, place)
            else:
                place.copy_(leaf)

    def _convert(self, pixels: torch.Tensor, place: torch.Tensor) -> None:
        """ToTensor's division, uint8 -> float32."""
        torch.div(pixels, _WHITE, out=place)
        if self.image_format.normalize is not None:
            mean, std = self.image_format.normalize
            place.sub_(mean).div_(std)

    def skip(self, row: int) -> None:
        """Leave this row out: the batch will be shorter."""
        with self._lock:
            self._holes.append(row)

    def complete(self) -> int:
        """Close the holes that skipped rows left, and say how many; `rows` is what remains."""
        for leaf, places in zip(self.leaves, self._places, strict=True):
            if leaf.ndim == 1:
                leaf.copy_(torch.tensor(places, dtype=leaf.dtype))
        self._places, self._usual = [], None  # or else the batch would hold its memory for as long as it lives
        if not self._holes:
            return 0
        holes = set(self._holes)
        kept = [row for row in range(self.rows) if row not in holes]
        for place, row in enumerate(kept):
            if place != row:
                for memory in self.leaves:
                    memory[place].copy_(memory[row])
        self.keys = [self.keys[row] for row in kept]
        self.rows = len(kept)
        self.leaves = [memory[: self.rows] for memory in self.leaves]
        return len(holes)

    def rebuilt(self, leaves: list[torch.Tensor]) -> tuple[Any, Any]:
        """(images, targets) in the structure of the samples, from delivered leaves."""
        if self.image_format.channels_last:
            turned = [leaf.permute(0, 3, 1, 2) if leaf.ndim == 4 else leaf for leaf in leaves[: self.pixel_leaves]]
            leaves = turned + leaves[self.pixel_leaves :]
        images, targets = tree.rebuilt(self._model, leaves)
        return images, targets

    def _checked(self, sample: Sample) -> list[Any]:
        """The sample's leaves, once they are known to be like those of the first; the first lays out the memory."""
        images, targets = tree.leaves(sample.image), tree.leaves(sample.target)
        layout = [pixel_leaf(leaf, self._pixels, sample.key) for leaf in images]
        layout += [target_leaf(leaf, self._pixels, sample.key) for leaf in targets]
        model = tree.rebuilt((sample.image, sample.target), [None] * len(layout))
        if self._layout is None:
            with self._lock:
                if self._layout is None:
                    self._lay_out(layout, model, sample, len(images))
        if layout != self._layout or model != self._model:
            raise ConfigError(unequal(self._first, self._layout or [], sample.key, layout))
        return [*images, *targets]

    def _lay_out(self, layout: list[Leaf], model: Any, sample: Sample, pixel_leaves: int) -> None:
        sizes = [self.rows * math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in layout]
        starts, total = [], 0
        for size in sizes:
            starts.append(total)
            total += size + -size % _ALIGN
        memory = self._allocate(total)
        self.nbytes = sum(sizes)
        shapes = [leaf.shape for leaf in layout]
        if self.image_format.channels_last:
            shapes[:pixel_leaves] = [
                (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape for shape in shapes[:pixel_leaves]
            ]
        self.leaves = [
            memory[start : start + size].view(leaf.dtype).view(self.rows, *shape)
            for leaf, shape, start, size in zip(layout, shapes, starts, sizes, strict=True)
        ]
        # rows as views, made at once; numbers are collected, and written at once by `complete`
        self._places = [list(leaf.unbind()) if leaf.ndim > 1 else [0] * self.rows for leaf in self.leaves]
        if self.image_format.channels_last:
            for number in range(pixel_leaves):
                self._places[number] = [
                    place.permute(2, 0, 1) if place.ndim == 3 else place for place in self._places[number]
                ]
        self.pixel_leaves, self._model, self._first = pixel_leaves, model, sample.key
        if isinstance(sample.image, torch.Tensor) and sample.image.ndim and type(sample.target) is int:
            images, targets = self._places
            converts = sample.image.dtype == torch.uint8 and self.leaves[0].dtype == torch.float32
            self._usual = _Usual(sample.image.shape, sample.image.dtype, images, targets, converts)
        self._layout = layout  # last: other threads look at it without the lock
