"""Transforms for segmentation: the same geometry for image and label map, label maps by nearest neighbour only."""

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as kernels

from mps_shards.errors import ConfigError
from mps_shards.vision.label_maps import check_size
from mps_shards.vision.views import View, seen

__all__ = ["evaluate", "train"]

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class train:
    """Scale image and label map by a random factor, crop both at random to a square, and flip both at random.

    A scaled image that is smaller than the square is padded at the right and the bottom: the image with 0, the label
    map with `ignore_index`.

    Args:
        size: height and width of the result, in pixels.
        scale: smallest and largest factor.
        flip: probability of a horizontal flip.
        ignore_index: label id of the padding.
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 <= self.flip <= 1:
            raise ConfigError(f"size and scale must be positive, scale ascending, and flip from 0 to 1: {self}")

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Pair:
        """Transform an image uint8 [3, height, width] and its label map [height, width] to [size, size]."""
        low, high = self.scale
        height, width = _scaled(image, mask, low + (high - low) * rng.random())
        top = int(rng.random() * (max(height, self.size) - self.size + 1))
        left = int(rng.random() * (max(width, self.size) - self.size + 1))
        crop = top, left, min(self.size, height), min(self.size, width)
        image, mask = _padded(*_resized_and_cropped(image, mask, (height, width), crop), self.size, self.ignore_index)
        if rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


@dataclass(frozen=True, slots=True)
class evaluate:
    """Scale image and label map so that the longer side is `size`, then pad both like `train`; nothing is cut off.

    Args:
        size: height and width of the result, in pixels.
        ignore_index: label id of the padding.
    """

    size: int
    _: KW_ONLY
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size must be positive, not {self.size}")

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Pair:
        """Transform an image uint8 [3, height, width] and its label map [height, width] to [size, size]."""
        height, width = _scaled(image, mask, self.size / max(image.shape[-2:]))
        crop = 0, 0, min(self.size, height), min(self.size, width)
        return _padded(*_resized_and_cropped(image, mask, (height, width), crop), self.size, self.ignore_index)


def _scaled(image: torch.Tensor, mask: torch.Tensor, factor: float) -> tuple[int, int]:
    """Height and width after scaling."""
    check_size(mask.shape, image.shape[-2:])
    height, width = (max(1, round(side * factor)) for side in mask.shape)
    return height, width


def _resized_and_cropped(
    image: torch.Tensor, mask: torch.Tensor, resized: tuple[int, int], crop: tuple[int, int, int, int]
) -> Pair:
    """Resize both, then crop both to (top, left, height, width)."""
    image = seen(image, View((0, 0, *mask.shape), resized, crop, False), "bilinear")
    top, left, height, width = crop
    return image, kernels.resize_mask(mask, list(resized))[..., top : top + height, left : left + width]


def _padded(image: torch.Tensor, mask: torch.Tensor, size: int, ignore_index: int) -> Pair:
    if mask.dtype == torch.uint8 and not 0 <= ignore_index <= 255:
        mask = mask.to(torch.int64)  # padded or not, all label maps of a batch have one dtype
    right, bottom = max(0, size - image.shape[-1]), max(0, size - image.shape[-2])
    if right or bottom:
        image = torch.nn.functional.pad(image, [0, right, 0, bottom], value=0)
        mask = torch.nn.functional.pad(mask, [0, right, 0, bottom], value=ignore_index)
    return image, mask
