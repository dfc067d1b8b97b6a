"""A batch in its host buffer, into whose rows worker threads write samples in any order.

If a batch stays on the CPU, the workers convert its pixels as ToTensor does, ``x / 255`` in float32, while the pixels
are in the CPU's cache. (``x * (1 / 255)`` differs for 126 of 256 values, as does torchvision's
``ToDtype(scale=True)``.) For another device the pixels stay uint8, a quarter of the bytes, and the device divides.
"""

import math
import threading
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mps_shards.batching import tree
from mps_shards.batching.host_buffers import HostBuffer
from mps_shards.batching.tensor_layout import Conversion, Leaf, describe_difference, image_leaf, target_leaf
from mps_shards.errors import ConfigError
from mps_shards.vision.normalization import Normalize, mean_and_std

__all__ = ["HostBatch", "ImageFormat", "Sample"]

_ALIGNMENT = 64  # bytes; every tensor in a host buffer begins at a cache line
_NUMPY = {torch.uint8: "|u1", torch.int64: "<i8", torch.float32: "<f4"}  # dtypes in host buffers
_WHITE = torch.tensor(255.0)  # a tensor, because torch would convert a number in each call


class Sample(NamedTuple):
    """A finished sample.

    Attributes:
        image: uint8 or float32 tensor, or or a tree of such tensors. uint8 values are pixels, 0..255.
        target: an integer, an integer or float32 tensor, or a tree of such values.
        key: key of the sample.
    """

    image: Any
    target: Any
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """Format of the images in a batch, apart from their size.

    Attributes:
        normalize: mean and standard deviation, each float32 [3, 1, 1], applied to float32 pixels as torchvision's
            `normalize` does: ``(x - mean) / std``. None leaves the pixels in 0..1.
        channels_last: whether images are [batch, height, width, 3] in memory, although their shape has the channels
            first.
    """

    normalize: tuple[torch.Tensor, torch.Tensor] | None = None
    channels_last: bool = False

    @classmethod
    def parse(cls, *, normalize: Normalize | None, channels_last: bool) -> "ImageFormat":
        """Return the image format for a user's options.

        Raises:
            ConfigError: `normalize` is neither a known name nor three means and three positive standard deviations.
        """
        if normalize is None:
            return cls(channels_last=channels_last)
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in mean_and_std(normalize))
        return cls(normalize=(mean, std), channels_last=channels_last)


class _FastPath(NamedTuple):
    """Rows of a batch whose samples consist of one image and one integer, the most common case.

    Attributes:
        shape, dtype: shape and dtype of an image as the transform returns it.
        images: row of each image.
        targets: list that receives the integers.
        converts: whether uint8 images are converted to float32.
    """

    shape: torch.Size
    dtype: torch.dtype
    targets: list[int]
    converts: bool


class HostBatch:
    """The rows of one batch. Any thread calls `put` or `skip` once for each row; other methods are called afterwards.

    Args:
        plan: plan of the samples of the batch; its length is the number of rows.
        allocate: function from bytes to uint8 host memory of at least that size, called once, at the first `put`.
        pixels: dtype in which uint8 images are stored: float32 if workers convert them, uint8 if the device converts
            them.
        image_format: normalisation and memory layout of images, applied together with the conversion.

    Attributes:
        buffer: host buffer of the batch; set and guarded by the worker threads.
        reserve: function that waits until a number of bytes for this batch fits into memory, or returns the limit if it
            never fits. Set by the worker threads if memory is limited.
        rows: number of samples; smaller than planned once `complete` has closed the gaps of skipped samples.
        keys: keys of the samples, in order.
        leaves: one tensor for each leaf of a sample, [rows, ...], all views of the allocated memory.
        conversions: for each leaf, its conversion on the device after the copy.
        nbytes: size of all leaves in bytes.
        next_row: the first row that no worker has taken yet.
        rows_left: number of unfinished rows; the batch is ready at 0.
        failure: the error of the first row that failed, which is raised instead of delivering the batch.
    """

    is_padded = False  # whether samples may have different shapes

    def __init__(
        self,
        plan: Sized,
        allocate: Callable[[int], torch.Tensor],
        *,
        pixels: torch.dtype,
        image_format: ImageFormat = ImageFormat(),
    ):
        self.plan, self.image_format = plan, image_format
        self.buffer: HostBuffer | None = None
        self.reserve: Callable[[int], int | None] = _no_limit
        self.rows = self.rows_left = len(plan)
        self.next_row = 0
        self.keys: list[str] = [""] * self.rows
        self.leaves: list[torch.Tensor] = []
        self.conversions: list[Conversion] = []
        self._image_leaves = 0  # number of leaves that are images; they are the first leaves
        self.nbytes = 0
        self.failure: BaseException | None = None
        self._failed_row = 0
        self._allocate, self._pixels = allocate, pixels
        self._lock = threading.Lock()
        self._layout: list[Leaf] | None = None
        self._structure: Any = None  # structure of a sample, as a tree whose leaves are None
        self._fast_path: _FastPath | None = None
        self._rows_of_leaves: list[Any] = []  # rows of each leaf: views, or a list of numbers
        self._image_memory: npt.NDArray[Any] | None = None  # of all rows, see `image_rows`
        self._first_key = ""
        self._skipped_rows: list[int] = []

    @classmethod
    def failed(cls, error: BaseException) -> "HostBatch":
        """Return an empty batch whose only purpose is to deliver an error."""
        batch = cls((), torch.empty, pixels=torch.uint8)
        batch.failure = error
        return batch

    def fail(self, row: int, error: BaseException) -> None:
        """Record the error of a row, unless an earlier row has failed."""
        if self.failure is None or row < self._failed_row:
            self.failure, self._failed_row = error, row

    def put(self, row: int, sample: Sample) -> None:
        """Write a sample into its row.

        Raises:
            ConfigError: the sample's shapes differ from those of another sample, or a dtype is not supported.
        """
        image, target, key = sample
        fast = self._fast_path
        if (
            fast is not None
            and type(target) is int
            and type(image) is torch.Tensor
            and image.dtype is fast.dtype
            and image.shape == fast.shape
        ):
            self.keys[row] = key
            fast.targets[row] = target
            memory = (self._rows_of_leaves[0] or self._row_views(0))[row]
            if fast.converts:
                self._convert(image, memory)
            else:
                memory.copy_(image)
            return
        values = self._checked_leaves(sample)
        self.keys[row] = key
        for number, value in enumerate(values):
            leaf_rows = self._rows_of_leaves[number] or self._row_views(number)
            memory = leaf_rows[row]
            if not isinstance(memory, torch.Tensor):
                leaf_rows[row] = value
            elif value.dtype == torch.uint8 and memory.dtype == torch.float32:
                self._convert(value, memory)
            else:
                memory.copy_(value)

    def image_rows(
        self, shape: tuple[int, int, int], key: str, dtype: torch.dtype = torch.uint8
    ) -> npt.NDArray[Any] | None:
        """Return the memory of the images of all rows, for writing images of one shape into it directly.

        After writing a row, call `put_rest` instead of `put`.

        Args:
            shape: shape of an image, [3, height, width].
            key: key of the first sample, which decides the layout of the batch.
            dtype: dtype of an image as the transform would return it.

        Returns:
            float32 or uint8 [rows, 3, height, width], or [rows, height, width, 3] if the batch stores channels last.
            None if the samples of the batch have another shape or structure.
        """
        if self._layout is None:
            sample = Sample(_like(shape, dtype), 0, key)
            self._check_normalized(sample)
            self._lay_out_once(*_layout_of_image(shape, dtype, self._pixels), sample)
        fast = self._fast_path
        if fast is None or fast.dtype is not dtype or tuple(fast.shape) != shape:
            return None
        if self._image_memory is None:
            self._image_memory = _array_of(self.leaves[0])
        return self._image_memory

    @property
    def is_laid_out(self) -> bool:
        """Whether the shapes of the batch are known: those of its first sample."""
        return self._layout is not None

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of an image, if it is known already and each sample consists of one image and one integer."""
        return None if self._fast_path is None else tuple(self._fast_path.shape)

    def put_rest(self, first: int, keys: Sequence[str], targets: Sequence[int]) -> None:
        """Complete consecutive rows whose images were written to `image_rows`."""
        assert self._fast_path is not None
        self.keys[first : first + len(keys)] = keys
        self._fast_path.targets[first : first + len(keys)] = targets

    def _convert(self, pixels: torch.Tensor, row: torch.Tensor) -> None:
        """Write uint8 pixels into a row as float32, divided by 255 and normalised."""
        torch.div(pixels, _WHITE, out=row)
        if self.image_format.normalize is not None:
            mean, std = self.image_format.normalize
            row.sub_(mean).div_(std)

    def skip(self, row: int) -> None:
        """Leave a row out, so that the batch becomes shorter."""
        with self._lock:
            self._skipped_rows.append(row)

    def complete(self) -> int:
        """Close the gaps of skipped rows, and return their number. `rows` becomes the number of remaining rows."""
        for leaf, rows in zip(self.leaves, self._rows_of_leaves, strict=True):
            if leaf.ndim == 1:
                _array_of(leaf)[:] = rows  # torch takes several times as long
        # views would keep the memory alive
        self._rows_of_leaves, self._fast_path, self._image_memory = [], None, None
        if not self._skipped_rows:
            return 0
        skipped = set(self._skipped_rows)
        kept = [row for row in range(self.rows) if row not in skipped]
        for new_row, row in enumerate(kept):
            if new_row != row:
                for leaf in self.leaves:
                    leaf[new_row].copy_(leaf[row])
        self.keys = [self.keys[row] for row in kept]
        self.rows = len(kept)
        self.leaves = [leaf[: self.rows] for leaf in self.leaves]
        return len(skipped)

    @property
    def is_empty(self) -> bool:
        """Whether the batch is empty because every sample was skipped."""
        return not self.rows

    def arranged(self, number: int, leaf: torch.Tensor) -> torch.Tensor:
        """Return leaf `number`, given in its order in memory, with its dimensions in the order that users see."""
        turned = self.image_format.channels_last and number < self._image_leaves and leaf.ndim == 4
        return leaf.permute(0, 3, 1, 2) if turned else leaf

    def rebuilt(self, leaves: list[torch.Tensor]) -> Any:
        """Return (images, targets) in the structure of the samples, from leaves in their memory layout."""
        arranged = [self.arranged(number, leaf) for number, leaf in enumerate(leaves)]
        return tree.rebuilt(self._structure, arranged)

    def delivered_leaves(self, delivered: Any) -> list[torch.Tensor]:
        """Return the tensors in a result of `rebuilt`, in the order of the attribute `leaves`."""
        return tree.leaves(delivered)

    def _checked_leaves(self, sample: Sample) -> list[Any]:
        """Return the sample's leaves after comparing them with those of the first sample, which decides the layout."""
        self._check_normalized(sample)
        layout, structure, images = _layout_of(sample, self._pixels)
        if self._layout is None:
            self._lay_out_once(layout, structure, images, sample)
        if layout != self._layout or structure != self._structure:
            raise ConfigError(describe_difference(self._first_key, self._layout or [], sample.key, layout))
        return [*tree.leaves(sample.image), *tree.leaves(sample.target)]

    def _check_normalized(self, sample: Sample) -> None:
        if self.image_format.normalize is not None and any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float32 for leaf in tree.leaves(sample.image)
        ):
            raise ConfigError(
                f"normalize= applies to uint8 images, but the transform returned float32 for sample {sample.key!r}: "
                "leave out ToTensor, ToDtype and Normalize in the transform, or normalize="
            )

    def _lay_out_once(self, layout: list[Leaf], structure: Any, images: int, sample: Sample) -> None:
        with self._lock:
            if self._layout is None:
                self._lay_out(layout, structure, sample, images)

    def _row_views(self, number: int) -> list[torch.Tensor]:
        """Return a view of each row of a leaf, made in one call when the first row is written."""
        views = self._rows_of_leaves[number] = list(self.arranged(number, self.leaves[number]).unbind())
        return views

    def _lay_out(self, layout: list[Leaf], structure: Any, sample: Sample, image_leaves: int) -> None:
        sizes = [self.rows * math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in layout]
        starts, total = [], 0
        for size in sizes:
            starts.append(total)
            total += size + -size % _ALIGNMENT
        memory = self._allocate(total)
        self.nbytes = sum(sizes)
        shapes = [leaf.shape for leaf in layout]
        if self.image_format.channels_last:
            shapes[:image_leaves] = [
                (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape for shape in shapes[:image_leaves]
            ]
        self.leaves = [
            memory[start : start + size].view(leaf.dtype).view(self.rows, *shape)
            for leaf, shape, start, size in zip(layout, shapes, starts, sizes, strict=True)
        ]
        # numbers are collected in a list, which `complete` writes in one call
        self._rows_of_leaves = [[] if leaf.ndim > 1 else [0] * self.rows for leaf in self.leaves]
        self._image_leaves, self._structure, self._first_key = image_leaves, structure, sample.key
        self.conversions = [leaf.conversion for leaf in layout]
        if isinstance(sample.image, torch.Tensor) and sample.image.ndim and type(sample.target) is int:
            _, targets = self._rows_of_leaves
            converts = sample.image.dtype == torch.uint8 and self.leaves[0].dtype == torch.float32
            self._fast_path = _FastPath(sample.image.shape, sample.image.dtype, targets, converts)
        self._layout = layout  # last, because other threads read it without the lock


def _layout_of(sample: Sample, pixels: torch.dtype) -> tuple[list[Leaf], Any, int]:
    """Return the memory layout of the sample's leaves, their structure, and how many of them are images."""
    images, targets = tree.leaves(sample.image), tree.leaves(sample.target)
    layout = [image_leaf(leaf, pixels, sample.key) for leaf in images]
    layout += [target_leaf(leaf, pixels, sample.key) for leaf in targets]
    return layout, tree.rebuilt((sample.image, sample.target), [None] * len(layout)), len(images)


@lru_cache(maxsize=32)
def _layout_of_image(
    shape: tuple[int, int, int], dtype: torch.dtype, pixels: torch.dtype
) -> tuple[list[Leaf], Any, int]:
    """Return the memory layout of samples that consist of an image and an integer. It is kept, as all batches have it.

    The caller must not change it.
    """
    return _layout_of(Sample(_like(shape, dtype), 0, ""), pixels)


@lru_cache(maxsize=32)
def _like(shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """Return an image without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def _no_limit(nbytes: int) -> None:
    """Return None, because memory is not limited."""


def _array_of(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return the memory of a dense tensor of a batch as an array, which is valid as long as the tensor lives.

    `Tensor.numpy` would make Python a co-owner of the memory. The copy to a device could then drop the last reference
    in a thread that does not hold the GIL.
    """
    return np.asarray(_Memory(tensor))


class _Memory:
    """Memory of a tensor for NumPy; see NumPy's array interface protocol."""

    __slots__ = ("__array_interface__",)

    def __init__(self, tensor: torch.Tensor):
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), False),
            "shape": tuple(tensor.shape),
            "typestr": _NUMPY[tensor.dtype],
            "version": 3,
        }
