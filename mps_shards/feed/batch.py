"""One batch being assembled in host memory: rows written by workers in any order, delivered as one block a leaf.

ToTensor happens here, where the pixels are still in the cache, when the batch stays on the CPU: ``x / 255`` in
float32. (``x * (1 / 255)`` differs on 126 of 256 values, as does torchvision's ``ToDtype(scale=True)``.) For a device
the pixels stay uint8, a quarter of the bytes, and the division is the engine's.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from mps_shards.errors import ConfigError
from mps_shards.feed import tree

__all__ = ["HostBatch", "Made"]

_ALIGN = 64  # of each leaf within a slot: a cache line


class Made(NamedTuple):
    """A finished sample.

    Attributes:
        image: uint8 or float32 tensor, or a tree of such; uint8 is pixels, 0..255.
        target: a whole number, an integer or float32 tensor, or a tree of such.
    """

    image: Any
    target: Any
    key: str


class _Leaf(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype


class HostBatch:
    """Rows of one batch. `put` and `skip` may be called from any thread, once a row; the rest after the last of them.

    Args:
        rows: how many samples it is to hold.
        allocate: bytes -> uint8 tensor of at least that size, on the host; called once, at the first `put`.
        pixels: dtype of pixels in memory: float32 to convert here, uint8 to leave that to an engine.

    Attributes:
        keys: of the samples, in order.
        leaves: one tensor a leaf, (rows, …), views of the allocated memory.
        pixel_leaves: how many of them, from the first on, hold images.
    """

    def __init__(self, rows: int, allocate: Callable[[int], torch.Tensor], *, pixels: torch.dtype):
        self.rows = rows
        self.keys: list[str] = [""] * rows
        self.leaves: list[torch.Tensor] = []
        self.pixel_leaves = 0
        self.nbytes = 0
        self._allocate, self._pixels = allocate, pixels
        self._lock = threading.Lock()
        self._layout: list[_Leaf] | None = None
        self._model: Any = None  # the structure of a sample
        self._usual: tuple[torch.Size, torch.dtype] | None = None
        self._places: list[Any] = []  # for each leaf, its rows
        self._first = ""
        self._holes: list[int] = []

    def put(self, row: int, sample: Made) -> None:
        """Write a sample into its row.

        Raises:
            ConfigError: its shapes differ from those of another sample of the batch, or a dtype cannot be delivered.
        """
        image, target, key = sample
        usual = self._usual
        if usual is None or type(target) is not int or image.dtype != usual[1] or image.shape != usual[0]:
            leaves = self._checked(sample)
        else:  # like the first: a tensor and a number, all that most samples are
            leaves = [image, target]
        self.keys[row] = key
        for leaf, places in zip(leaves, self._places, strict=True):
            place = places[row]
            if not isinstance(place, torch.Tensor):
                places[row] = leaf
            elif leaf.dtype == torch.uint8 and place.dtype == torch.float32:
                torch.div(leaf, 255, out=place)
            else:
                place.copy_(leaf)

    def skip(self, row: int) -> None:
        """Leave this row out: the batch will be shorter."""
        with self._lock:
            self._holes.append(row)

    def finish(self) -> int:
        """Close the holes that skipped rows left, and say how many; `rows` is what remains."""
        for leaf, places in zip(self.leaves, self._places, strict=True):
            if leaf.ndim == 1:
                leaf.copy_(torch.tensor(places, dtype=leaf.dtype))
        self._places = []
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
        images, targets = tree.rebuilt(self._model, leaves)
        return images, targets

    def _checked(self, sample: Made) -> list[Any]:
        """The sample's leaves, once they are known to be like those of the first; the first lays out the memory."""
        images, targets = tree.leaves(sample.image), tree.leaves(sample.target)
        layout = [_pixel_leaf(leaf, self._pixels, sample.key) for leaf in images]
        layout += [_target_leaf(leaf, self._pixels, sample.key) for leaf in targets]
        model = tree.rebuilt((sample.image, sample.target), [None] * len(layout))
        if self._layout is None:
            with self._lock:
                if self._layout is None:
                    self._lay_out(layout, model, sample, len(images))
        if layout != self._layout or model != self._model:
            raise ConfigError(_unequal(self._first, self._layout, sample.key, layout))
        return [*images, *targets]

    def _lay_out(self, layout: list[_Leaf], model: Any, sample: Made, pixel_leaves: int) -> None:
        sizes = [self.rows * math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in layout]
        starts, total = [], 0
        for size in sizes:
            starts.append(total)
            total += size + -size % _ALIGN
        memory = self._allocate(total)
        self.nbytes = sum(sizes)
        self.leaves = [
            memory[start : start + size].view(leaf.dtype).view(self.rows, *leaf.shape)
            for leaf, start, size in zip(layout, starts, sizes, strict=True)
        ]
        # rows as views, made at once; numbers are collected, and written at once by `finish`
        self._places = [list(leaf.unbind()) if leaf.ndim > 1 else [0] * self.rows for leaf in self.leaves]
        self.pixel_leaves, self._model, self._first = pixel_leaves, model, sample.key
        if isinstance(sample.image, torch.Tensor) and type(sample.target) is int:
            self._usual = (sample.image.shape, sample.image.dtype)
        self._layout = layout  # last: other threads look at it without the lock


def _pixel_leaf(leaf: Any, pixels: torch.dtype, key: str) -> _Leaf:
    if not isinstance(leaf, torch.Tensor) or leaf.dtype not in (torch.uint8, torch.float32):
        kind = leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf).__name__
        raise ConfigError(
            f"the transform gave {kind} as image of sample {key!r}; it must give uint8 or float32 tensors"
        )
    return _Leaf(tuple(leaf.shape), pixels if leaf.dtype == torch.uint8 else torch.float32)


def _target_leaf(leaf: Any, pixels: torch.dtype, key: str) -> _Leaf:
    if isinstance(leaf, bool | int):
        return _Leaf((), torch.int64)
    if isinstance(leaf, float):
        return _Leaf((), torch.float32)
    if isinstance(leaf, torch.Tensor):
        if leaf.dtype == torch.float32:
            return _Leaf(tuple(leaf.shape), torch.float32)
        if leaf.dtype == torch.uint8 and leaf.ndim >= 2:  # a mask: a byte a pixel on the way, int64 when delivered
            return _Leaf(tuple(leaf.shape), torch.uint8 if pixels == torch.uint8 else torch.int64)
        if not leaf.dtype.is_floating_point and not leaf.dtype.is_complex:
            return _Leaf(tuple(leaf.shape), torch.int64)
    kind = leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf).__name__
    raise ConfigError(
        f"the transform gave {kind} as target of sample {key!r}; it must give whole numbers, integer or float32 tensors"
    )


def _unequal(first: str, layout: list[_Leaf] | None, second: str, other: list[_Leaf]) -> str:
    for one, two in zip(layout or [], other, strict=False):
        if one != two:
            return (
                f"sample {first!r} is {_shape(one)}, but sample {second!r} of the same batch is {_shape(two)}; "
                "give a transform of a fixed size (classify.train(224)), or batch_size=None for single samples"
            )
    return f"samples {first!r} and {second!r} of one batch differ in structure: in their keys, or in how many tensors they are"


def _shape(leaf: _Leaf) -> str:
    return f"{'x'.join(map(str, leaf.shape)) or 'a number'} ({str(leaf.dtype).removeprefix('torch.')})"
