"""Transforms for classification: random resized crop and flip to train, resize and centre crop to evaluate.

The geometry is computed by torchvision's kernels on uint8, so each pixel equals that of torchvision's v2 transforms for
the same crop.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torchvision.transforms import v2

from mps_shards.errors import ConfigError
from mps_shards.vision.views import View, seen

__all__ = ["evaluate", "mix", "train"]

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True, slots=True)
class train:
    """Crop at random, resize the crop to a square, and flip it at random.

    The defaults are those of torchvision's RandomResizedCrop and RandomHorizontalFlip.

    Args:
        size: height and width of the result, in pixels.
        scale: smallest and largest area of the crop, as a share of the image's area.
        ratio: smallest and largest aspect ratio of the crop, width / height.
        flip: probability of a horizontal flip.
        interpolation: how the crop is resized.

    Example:
        >>> transform = classify.train(224, scale=(0.25, 1.0))
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"size, scale and ratio must be positive, and both ranges ascending: {self}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability from 0 to 1, not {self.flip}")
        _check_interpolation(self.interpolation)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Transform an image uint8 [3, height, width] to uint8 [3, size, size]; the target stays as it is."""
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return seen(image, view, self.interpolation), target

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Draw the view of an image of this size."""
        region = self.crop(height, width, rng)
        return View(region, (self.size, self.size), None, rng.random() < self.flip)

    def crop(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw top, left, height and width of the crop, as torchvision's RandomResizedCrop.get_params draws them."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * rng.random())
            ratio = math.exp(low + (high - low) * rng.random())
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                return int(rng.random() * (height - tall + 1)), int(rng.random() * (width - wide + 1)), tall, wide
        # No crop fits: take the largest central one whose aspect ratio is allowed.
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        wide = min(width, round(height * ratio))
        tall = min(height, round(width / ratio))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


@dataclass(frozen=True, slots=True)
class evaluate:
    """Resize the shorter side, then crop the centre.

    Args:
        size: height and width of the result, in pixels.
        resize: length of the shorter side before the crop; `size` * 256 / 224 by default, as for ImageNet.
        interpolation: how the image is resized.

    Example:
        >>> transform = classify.evaluate(224, resize=256)
    """

    size: int
    resize: int = 0
    _: KW_ONLY
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "resize", self.resize or round(self.size * 256 / 224))
        if not 0 < self.size <= self.resize:
            raise ConfigError(f"resize={self.resize} must be at least size={self.size}, and both must be positive")
        _check_interpolation(self.interpolation)

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Transform an image uint8 [3, height, width] to uint8 [3, size, size]; the target stays as it is."""
        view = self.plan(image.shape[-2], image.shape[-1], rng)
        return seen(image, view, self.interpolation), target

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Return the view of an image of this size; lengths are rounded as torchvision rounds them."""
        shorter = min(height, width)
        resized = int(self.resize * height / shorter), int(self.resize * width / shorter)
        top, left = (round((side - self.size) / 2.0) for side in resized)
        return View((0, 0, height, width), resized, (top, left, self.size, self.size), False)


@dataclass(frozen=True, slots=True)
class mix:
    """Apply MixUp or CutMix to each batch, one of the two at random, for ``ShardDataset(mix=...)``.

    torchvision's transforms run on the device. Labels become float32 [batch, classes], each row the shares of the
    classes, which `torch.nn.functional.cross_entropy` accepts.

    Args:
        classes: number of classes of the set.
        mixup: alpha of MixUp, as in torchvision.transforms.v2; 0 leaves MixUp out.
        cutmix: alpha of CutMix; 0 leaves CutMix out.
    """

    classes: int
    _: KW_ONLY
    mixup: float = 0.2
    cutmix: float = 1.0

    def __post_init__(self) -> None:
        if self.classes < 2 or self.mixup < 0 or self.cutmix < 0 or not self.mixup + self.cutmix:
            raise ConfigError(f"mix needs at least two classes, and a positive alpha for mixup or cutmix: {self}")

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix images float32 [batch, 3, height, width] and labels int64 [batch]; labels come back as shares.

        Args:
            seed: decides which of the two is applied, and with which parameters.
        """
        alphas = ((v2.MixUp, self.mixup), (v2.CutMix, self.cutmix))
        transforms = [kind(alpha=alpha, num_classes=self.classes) for kind, alpha in alphas if alpha]
        # torchvision draws from torch's global generator, so its state is set for this call and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            chosen = transforms[int(torch.randint(len(transforms), ()))]
            mixed: tuple[torch.Tensor, torch.Tensor] = chosen(images, labels)
        return mixed


def _check_interpolation(interpolation: Interpolation) -> None:
    if interpolation not in get_args(Interpolation):
        raise ConfigError(f"interpolation must be one of {', '.join(get_args(Interpolation))}, not {interpolation!r}")
