"""Transforms for segmentation: the same geometry on image and mask, masks by nearest neighbour only."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as kernels

from mps_shards.errors import ConfigError
from mps_shards.vision.views import View, seen

__all__ = ["Evaluate", "Train", "evaluate", "train"]

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Random scale, random crop with padding, horizontal flip. Made by `train`, which documents it."""

    size: int
    scale: tuple[float, float]
    flip: float
    ignore_index: int

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 <= self.flip <= 1:
            raise ConfigError(f"size and scale must be positive, scale ascending, flip from 0 to 1: {self}")

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Pair:
        """uint8 (3, height, width) and mask (height, width) -> both size x size."""
        low, high = self.scale
        height, width = _scaled(image, mask, low + (high - low) * rng.random())
        top = int(rng.random() * (max(height, self.size) - self.size + 1))
        left = int(rng.random() * (max(width, self.size) - self.size + 1))
        crop = top, left, min(self.size, height), min(self.size, width)
        image, mask = _padded(*_seen(image, mask, (height, width), crop), self.size, self.ignore_index)
        if rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """The whole picture in a square, padded. Made by `evaluate`, which documents it."""

    size: int
    ignore_index: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size must be positive, not {self.size}")

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, rng: np.random.Generator) -> Pair:
        """uint8 (3, height, width) and mask (height, width) -> both size x size."""
        height, width = _scaled(image, mask, self.size / max(image.shape[-2:]))
        crop = 0, 0, min(self.size, height), min(self.size, width)
        return _padded(*_seen(image, mask, (height, width), crop), self.size, self.ignore_index)


def train(size: int, *, scale: tuple[float, float] = (0.5, 2.0), flip: float = 0.5, ignore_index: int = 255) -> Train:
    """Image and mask scaled by a random factor, cropped at random to `size` squared, flipped at times.

    Where the scaled image is smaller than `size`, it is padded at the right and the bottom: the image with 0, the mask
    with `ignore_index`.
    """
    return Train(size=size, scale=scale, flip=flip, ignore_index=ignore_index)


def evaluate(size: int, *, ignore_index: int = 255) -> Evaluate:
    """Image and mask scaled so that the longer side is `size`, then padded like `train`: nothing is cut off."""
    return Evaluate(size=size, ignore_index=ignore_index)


def _scaled(image: torch.Tensor, mask: torch.Tensor, factor: float) -> tuple[int, int]:
    """Height and width after scaling."""
    if mask.shape != image.shape[-2:]:
        raise ConfigError(f"the mask is {tuple(mask.shape)}, its image {tuple(image.shape[-2:])}: they must be equal")
    height, width = (max(1, round(side * factor)) for side in mask.shape)
    return height, width


def _seen(image: torch.Tensor, mask: torch.Tensor, resized: tuple[int, int], crop: tuple[int, int, int, int]) -> Pair:
    """Both resized, then cropped to (top, left, height, width)."""
    image = seen(image, View((0, 0, *mask.shape), resized, crop, False), "bilinear")
    top, left, height, width = crop
    return image, kernels.resize_mask(mask, list(resized))[..., top : top + height, left : left + width]


def _padded(image: torch.Tensor, mask: torch.Tensor, size: int, ignore_index: int) -> Pair:
    if mask.dtype == torch.uint8 and not 0 <= ignore_index <= 255:
        mask = mask.to(torch.int64)  # padded or not: the masks of a batch have one dtype
    right, bottom = max(0, size - image.shape[-1]), max(0, size - image.shape[-2])
    if right or bottom:
        image = torch.nn.functional.pad(image, [0, right, 0, bottom], value=0)
        mask = torch.nn.functional.pad(mask, [0, right, 0, bottom], value=ignore_index)
    return image, mask
