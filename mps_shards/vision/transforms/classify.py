"""Transforms for classification: random resized crop and flip to train, resize and centre crop to evaluate.

Images are resized by torchvision's kernels for uint8, so each pixel equals that of torchvision's v2 transforms for the
same crop.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torchvision.transforms import v2

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.colour import (
    Jitter,
    Step,
    apply_steps,
    augment_step,
    colour_steps,
    erase_step,
)
from mps_shards.vision.transforms.geometry import Geometry
from mps_shards.vision.views import seen

__all__ = ["evaluate", "mix", "train"]

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True, slots=True)
class train:
    """Crop an image at random, resize the crop to a square, flip it at random, and optionally change its colours.

    The defaults of crop and flip are those of torchvision's RandomResizedCrop and RandomHorizontalFlip.

    Args:
        size: height and width of the result, in pixels.
        scale: smallest and largest area of the crop, as a share of the image's area.
        ratio: smallest and largest aspect ratio of the crop, width / height.
        flip: probability of a horizontal flip.
        interpolation: interpolation for resizing the crop.
        augment: "randaugment", "trivialaugment", "autoaugment" or "augmix" with torchvision's defaults, or a transform
            such as ``v2.RandAugment(num_ops=3)``.
        jitter: strength of colour jitter, or the strengths of brightness, contrast, saturation and hue.
        jitter_p: probability of colour jitter.
        grayscale: probability that the colours become gray.
        blur: probability of a Gaussian blur, as SimCLR blurs.
        erase: probability that a rectangle is erased, with ImageNet's mean colour.

    Example:
        >>> transform = classify.train(224, augment="trivialaugment", erase=0.1)
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    interpolation: Interpolation = "bilinear"
    augment: str | Step | None = None
    jitter: Jitter = 0.0
    jitter_p: float = 1.0
    grayscale: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    geometry: Geometry = field(init=False, repr=False, compare=False)
    _steps: list[Step] = field(init=False, repr=False, compare=False)
    pixel_table = None  # see `Planned`

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.scale[0] <= self.scale[1] or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ConfigError(f"size, scale and ratio must be positive, and both ranges ascending: {self}")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability from 0 to 1, not {self.flip}")
        _check_interpolation(self.interpolation)
        geometry = Geometry(area=(self.scale, self.ratio), resized=(self.size, self.size), flip=self.flip)
        object.__setattr__(self, "geometry", geometry)
        colour = colour_steps(jitter=self.jitter, jitter_p=self.jitter_p, grayscale=self.grayscale, blur=self.blur)
        object.__setattr__(self, "_steps", [*augment_step(self.augment), *colour, *erase_step(self.erase)])

    def __call__(self, image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[torch.Tensor, Any]:
        """Transform an image uint8 [3, height, width] to uint8 [3, size, size]; the target stays as it is."""
        _refuse_label_map(target)
        view = seen(image, self.geometry.plan(image.shape[-2], image.shape[-1], rng), self.interpolation)
        return apply_steps(view, self._steps, rng) if self._steps else view, target

    @property
    def after(self) -> Callable[[torch.Tensor, np.random.Generator], torch.Tensor] | None:
        """Function that changes the colours of a view; None without such steps. See `Planned`."""
        return (lambda image, rng: apply_steps(image, self._steps, rng)) if self._steps else None


@dataclass(frozen=True, slots=True)
class evaluate:
    """Resize an image to a length of its shorter side, then crop the centre.

    Args:
        size: height and width of the result, in pixels.
        resize: length of the shorter side before the crop, in pixels; `size` * 256 / 224 by default, as for ImageNet.
        interpolation: interpolation for resizing the image.

    Example:
        >>> transform = classify.evaluate(224, resize=256)
    """

    size: int
    resize: int | None = None
    _: KW_ONLY
    interpolation: Interpolation = "bilinear"
    geometry: Geometry = field(init=False, repr=False, compare=False)
    after = pixel_table = None  # see `Planned`

    def __post_init__(self) -> None:
        resize = round(self.size * 256 / 224) if self.resize is None else self.resize
        if not 0 < self.size <= resize:
            raise ConfigError(f"resize={resize} must be at least size={self.size}, and both must be positive")
        _check_interpolation(self.interpolation)
        object.__setattr__(self, "geometry", Geometry(resized=resize, crop=(self.size, self.size)))

    def __call__(self, image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[torch.Tensor, Any]:
        """Transform an image uint8 [3, height, width] to uint8 [3, size, size]; the target stays as it is."""
        _refuse_label_map(target)
        return seen(image, self.geometry.plan(image.shape[-2], image.shape[-1], rng), self.interpolation), target


@dataclass(frozen=True, slots=True)
class mix:
    """Apply MixUp or CutMix to each batch, one of the two at random: an option of ``Collate(mix=...)``.

    torchvision's transforms run on the device. Labels become float32 [batch, classes]: each row holds the shares of the
    classes, as `torch.nn.functional.cross_entropy` accepts.

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
        """Mix images float32 [batch, 3, height, width] and labels int64 [batch].

        Args:
            seed: seed that decides which transform is applied, and with which parameters.

        Returns:
            Images of the same shape, and labels float32 [batch, classes].
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


def _refuse_label_map(target: Any) -> None:
    if isinstance(target, torch.Tensor) and target.ndim == 2:
        raise ConfigError("classify transforms would leave the label map as it is: use segment.train or evaluate")
