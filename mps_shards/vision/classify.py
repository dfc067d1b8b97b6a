"""Transforms for classification: random resized crop and flip to train, resize and centre crop to evaluate.

Geometry by torchvision's kernels on uint8, so pixels are what torchvision's own v2 transforms give for the same crop.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torchvision.transforms.v2 import functional as kernels
from torchvision.transforms.v2.functional import InterpolationMode

from mps_shards.errors import ConfigError

__all__ = ["Evaluate", "Train", "evaluate", "train"]

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Random resized crop and horizontal flip. Made by `train`, which documents it."""

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"size, scale and ratio must be positive and ranges ascending: {self}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability from 0 to 1, not {self.flip}")
        _check(self.interpolation)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (3, height, width) -> uint8 (3, size, size); the target unchanged."""
        top, left, height, width = self.crop(image.shape[-2], image.shape[-1], rng)
        # a dense crop, channels last: torchvision's kernel takes two thirds of the time that it takes for a view
        crop = image[:, top : top + height, left : left + width][None].contiguous(memory_format=torch.channels_last)
        image = kernels.resize_image(crop, [self.size, self.size], InterpolationMode(self.interpolation))[0]
        if rng.random() < self.flip:
            image = kernels.horizontal_flip_image(image)
        return image, target

    def crop(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Top, left, height and width, drawn as torchvision's RandomResizedCrop.get_params draws them."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * rng.random())
            ratio = math.exp(low + (high - low) * rng.random())
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                return int(rng.random() * (height - tall + 1)), int(rng.random() * (width - wide + 1)), tall, wide
        # no crop of such a shape fits: the largest central one whose ratio is allowed
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        wide = min(width, round(height * ratio))
        tall = min(height, round(width / ratio))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """Resize the shorter side, then crop the centre. Made by `evaluate`, which documents it."""

    size: int
    resize: int
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.resize:
            raise ConfigError(f"resize={self.resize} must be at least size={self.size}, and both positive")
        _check(self.interpolation)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (3, height, width) -> uint8 (3, size, size); the target unchanged."""
        image = kernels.resize_image(image, [self.resize], InterpolationMode(self.interpolation))
        return kernels.center_crop_image(image, [self.size, self.size]), target


def train(
    size: int,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    interpolation: Interpolation = "bilinear",
) -> Train:
    """A random crop of `scale` of the area and of aspect `ratio`, resized to `size` squared, flipped at times.

    The defaults are torchvision's RandomResizedCrop and RandomHorizontalFlip.
    """
    return Train(size=size, scale=scale, ratio=ratio, flip=flip, interpolation=interpolation)


def evaluate(size: int, resize: int | None = None, *, interpolation: Interpolation = "bilinear") -> Evaluate:
    """The shorter side resized to `resize`, then the central `size` squared.

    Args:
        resize: by default `size` * 256 / 224, as for ImageNet.
    """
    return Evaluate(size=size, resize=resize or round(size * 256 / 224), interpolation=interpolation)


def _check(interpolation: Interpolation) -> None:
    if interpolation not in get_args(Interpolation):
        raise ConfigError(f"interpolation {interpolation!r} is none of {', '.join(get_args(Interpolation))}")
