"""Transforms for segmentation, which crop, resize and flip an image and its label map in the same way.

Label maps are resized by nearest neighbour, so that no new label ids appear.
"""

from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import torch
from torchvision.transforms.v2 import functional as kernels

from mps_shards.errors import ConfigError
from mps_shards.vision.label_maps import DEFAULT_IGNORE_INDEX, check_size
from mps_shards.vision.transforms.colour import Jitter, Step, apply_steps, colour_steps
from mps_shards.vision.views import View, seen

__all__ = ["evaluate", "padded_with", "train"]

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class train:
    """Scale image and label map by a random factor, crop both at random to a square, and flip both at random.

    If the scaled image is smaller than the square, both are padded at the right and the bottom: the image with 0, the
    label map with `ignore_index`. Jitter, grayscale and blur apply to the image alone.

    Args:
        size: height and width of the result, in pixels.
        scale: smallest and largest factor by which both are scaled.
        flip: probability of a horizontal flip.
        ignore_index: label id of the padding; None for the ignore_index of the set, or 255 if the set has none. Another
            id than that of the set is an error, because a loss ignores only one id.
        jitter, jitter_p, grayscale, blur: colour augmentation, as in `classify.train`.
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    ignore_index: int | None = None
    jitter: Jitter = 0.0
    jitter_p: float = 1.0
    grayscale: float = 0.0
    blur: float = 0.0
    _steps: list[Step] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 <= self.flip <= 1:
            raise ConfigError(f"size and scale must be positive, scale ascending, and flip from 0 to 1: {self}")
        steps = colour_steps(jitter=self.jitter, jitter_p=self.jitter_p, grayscale=self.grayscale, blur=self.blur)
        object.__setattr__(self, "_steps", steps)

    def __call__(self, image: torch.Tensor, label_map: torch.Tensor, rng: np.random.Generator) -> Pair:
        """Transform an image uint8 [3, height, width] and its label map [height, width] to `size` x `size` pixels."""
        _check_pair(image, label_map)
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return self.show(seen(image, view, "bilinear"), label_map, view, rng)

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Draw the view of an image of this height and width, without flip and padding."""
        low, high = self.scale
        factor = low + (high - low) * rng.random()
        tall, wide = _scaled(height, factor), _scaled(width, factor)
        top = int(rng.random() * (max(tall, self.size) - self.size + 1))
        left = int(rng.random() * (max(wide, self.size) - self.size + 1))
        return View((0, 0, height, width), (tall, wide), (top, left, min(self.size, tall), min(self.size, wide)), False)

    def show(self, image: torch.Tensor, label_map: torch.Tensor, view: View, rng: np.random.Generator) -> Pair:
        """Return image and label map [size, size].

        Args:
            image: the view of the image, uint8 [3, height, width].
            label_map: the whole label map.
            rng: generator in its state after `plan`.
        """
        image, label_map = _padded(image, _seen_label_map(label_map, view), self.size, self.ignore_index)
        if rng.random() < self.flip:
            image, label_map = image.flip(-1), label_map.flip(-1)
        return apply_steps(image, self._steps, rng) if self._steps else image, label_map


@dataclass(frozen=True, slots=True)
class evaluate:
    """Return the complete image and label map: at their stored size, at a fixed scale, or fitted into a square.

    A network segments objects best at the sizes that it saw in training. `segment.train` shows objects at `scale` times
    their stored size, so evaluate at the stored size (the default) or at a scale from that range. Images of different
    sizes form a batch with ``ShardDataset(pad=32)``. A square of a fixed `size` is easier to batch, but larger images
    are shrunk to fit, and the objects in them.

    Args:
        size: height and width of a square that the image is fitted into, with padding at the right and the bottom.
        scale: factor by which image and label map are scaled; 1 by default. Give `size` or `scale`, not both.
        ignore_index: label id of the padding, as in `segment.train`.

    Example:
        >>> transform = segment.evaluate()  # stored size
    """

    size: int | None = None
    _: KW_ONLY
    scale: float | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.scale is not None:
            raise ConfigError("give segment.evaluate a size, which fits pictures into a square, or a scale, not both")
        if (self.size is not None and self.size < 1) or (self.scale is not None and self.scale <= 0):
            raise ConfigError(f"size and scale must be positive: {self}")

    def __call__(self, image: torch.Tensor, label_map: torch.Tensor, rng: np.random.Generator) -> Pair:
        """Transform an image uint8 [3, height, width] and its label map [height, width] in the same way."""
        _check_pair(image, label_map)
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return self.show(seen(image, view, "bilinear"), label_map, view, rng)

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Return the view of an image of this height and width, without padding."""
        factor = (1.0 if self.scale is None else self.scale) if self.size is None else self.size / max(height, width)
        tall, wide = _scaled(height, factor), _scaled(width, factor)
        most = self.size or max(tall, wide)
        return View((0, 0, height, width), (tall, wide), (0, 0, min(most, tall), min(most, wide)), False)

    def show(self, image: torch.Tensor, label_map: torch.Tensor, view: View, rng: np.random.Generator) -> Pair:
        """Return image and label map in the size of the view, or padded to a square of `size`, see `train.show`."""
        label_map = _seen_label_map(label_map, view)
        if self.size is None:
            return image, label_map
        return _padded(image, label_map, self.size, self.ignore_index)


def padded_with(transform: train | evaluate, ignore_index: int | None, classes: int) -> train | evaluate:
    """Return the transform with the label id for the padding of label maps in a set.

    Args:
        transform: a transform, whose own `ignore_index` must fit the set if it is given.
        ignore_index: label id of the set that is not a class; None if the set has none.
        classes: number of classes of the set; 0 if it is not known.

    Raises:
        ConfigError: the transform and the set have different label ids for this, or the padding would be a class.
    """
    own = transform.ignore_index
    if own is not None and ignore_index is not None and own != ignore_index:
        raise ConfigError(
            f"the transform pads with ignore_index={own}, but the ignore_index of the set is {ignore_index}: leave "
            "ignore_index out to pad with that of the set"
        )
    padding = ignore_index if own is None else own
    if padding is None:
        padding = DEFAULT_IGNORE_INDEX
    if ignore_index is None and 0 <= padding < classes:
        raise ConfigError(f"padding with {padding} would be class {padding} of the set: give ignore_index=-100")
    return replace(transform, ignore_index=padding)


def _check_pair(image: torch.Tensor, label_map: torch.Tensor) -> None:
    if not isinstance(label_map, torch.Tensor):
        raise ConfigError(f"segment transforms need a label map as target, not {label_map!r}: use classify")
    check_size(label_map.shape, image.shape[-2:])


def _scaled(side: int, factor: float) -> int:
    return max(1, round(side * factor))


def _seen_label_map(label_map: torch.Tensor, view: View) -> torch.Tensor:
    """Return the view of a label map, resized by nearest neighbour."""
    assert view.crop is not None  # both transforms crop
    top, left, height, width = view.crop
    resized: torch.Tensor = kernels.resize_mask(label_map, list(view.resized))
    return resized[..., top : top + height, left : left + width]


def _padded(image: torch.Tensor, label_map: torch.Tensor, size: int, ignore_index: int | None) -> Pair:
    padding = DEFAULT_IGNORE_INDEX if ignore_index is None else ignore_index
    if label_map.dtype == torch.uint8 and not 0 <= padding <= 255:
        label_map = label_map.to(torch.int64)  # also without padding, so that all label maps of a batch have one dtype
    right, bottom = max(0, size - image.shape[-1]), max(0, size - image.shape[-2])
    if right or bottom:
        image = torch.nn.functional.pad(image, [0, right, 0, bottom], value=0)
        label_map = torch.nn.functional.pad(label_map, [0, right, 0, bottom], value=padding)
    return image, label_map
