"""Transforms for classification: random resized crop and flip to train, resize and centre crop to evaluate.

Geometry by torchvision's kernels on uint8, so pixels are what torchvision's own v2 transforms give for the same crop.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torchvision.transforms import v2

from mps_shards.errors import ConfigError
from mps_shards.vision.views import View, seen

__all__ = ["Evaluate", "Mix", "Train", "evaluate", "mix", "train"]

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
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return seen(image, view, self.interpolation), target

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """A random crop, resized, and flipped at times."""
        region = self.crop(height, width, rng)
        return View(region, (self.size, self.size), None, rng.random() < self.flip)

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
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return seen(image, view, self.interpolation), target

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """The whole image, its shorter side resized, then the centre; sizes are rounded as torchvision rounds them."""
        shorter = min(height, width)
        resized = int(self.resize * height / shorter), int(self.resize * width / shorter)
        top, left = (round((side - self.size) / 2.0) for side in resized)
        return View((0, 0, height, width), resized, (top, left, self.size, self.size), False)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """MixUp or CutMix of a whole batch, by torchvision. Made by `mix`, which documents it."""

    classes: int
    mixup: float
    cutmix: float

    def __post_init__(self) -> None:
        if self.classes < 2 or self.mixup < 0 or self.cutmix < 0 or not self.mixup + self.cutmix:
            raise ConfigError(f"mix takes at least two classes and a positive alpha for mixup or cutmix: {self}")

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 [batch, 3, height, width], labels int64 [batch] -> the same and float32 [batch, classes].

        Args:
            seed: decides which of the two is done, and how.
        """
        kinds = [kind(alpha=alpha, num_classes=self.classes) for kind, alpha in self._kinds() if alpha]
        # torchvision draws from torch's own generator: it is set for this call, and left as it was
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            chosen = kinds[int(torch.randint(len(kinds), ()))]
            mixed: tuple[torch.Tensor, torch.Tensor] = chosen(images, labels)
        return mixed

    def _kinds(self) -> tuple[tuple[Any, float], ...]:
        return (v2.MixUp, self.mixup), (v2.CutMix, self.cutmix)


def mix(classes: int, *, mixup: float = 0.2, cutmix: float = 1.0) -> Mix:
    """MixUp or CutMix of each batch, on the device, one of the two at random; for ``ShardDataset(mix=…)``.

    Labels become float32 [batch, classes]: shares of the classes, which `torch.nn.functional.cross_entropy` takes.

    Args:
        mixup, cutmix: alpha of each, as in torchvision.transforms.v2; 0 leaves it out.
    """
    return Mix(classes=classes, mixup=mixup, cutmix=cutmix)
