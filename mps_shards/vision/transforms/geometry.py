"""Sizes and crops, computed by the rules of torchvision and drawn from the same distributions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mps_shards.vision.views import View

__all__ = ["Geometry", "Planned", "central_crop", "random_crop", "shorter_side_resized"]

Region = tuple[int, int, int, int]  # top, left, height, width


def random_crop(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Region:
    """Draw a crop of an image, by the method of torchvision's RandomResizedCrop.get_params.

    Args:
        scale: smallest and largest area of the crop, as a share of the image's area.
        ratio: smallest and largest aspect ratio of the crop, width / height.

    Returns:
        Top, left, height and width of the crop, in pixels.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            return int(rng.random() * (height - tall + 1)), int(rng.random() * (width - wide + 1)), tall, wide
    # No crop fits: take the largest central one whose aspect ratio is allowed.
    aspect = min(max(width / height, ratio[0]), ratio[1])
    wide = min(width, round(height * aspect))
    tall = min(height, round(width / aspect))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def shorter_side_resized(height: int, width: int, length: int) -> tuple[int, int]:
    """Return the height and width after resizing the shorter side to `length`, rounded as torchvision rounds them."""
    shorter = min(height, width)
    return int(length * height / shorter), int(length * width / shorter)


def central_crop(size: tuple[int, int], crop: tuple[int, int]) -> Region:
    """Return the central crop of height and width `crop` in an image of height and width `size`."""
    top, left = (round((side - cropped) / 2.0) for side, cropped in zip(size, crop, strict=True))
    return top, left, *crop


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Draws the view of an image from the size of the image: a crop, a resize, a central crop and a flip.

    The native kernel draws the same views, see geometry.h.

    Attributes:
        area: ranges of the share of the area and of the aspect ratio of a random crop; None for the whole image.
        resized: height and width after resizing, or the length of the shorter side; None keeps the size.
        crop: height and width of a central crop; None for no crop.
        flip: probability of a horizontal flip; None draws no random number for it.
    """

    area: tuple[tuple[float, float], tuple[float, float]] | None = None
    resized: tuple[int, int] | int | None = None
    crop: tuple[int, int] | None = None
    flip: float | None = None

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """Draw the view of an image of this height and width."""
        region = (0, 0, height, width) if self.area is None else random_crop(height, width, *self.area, rng)
        if isinstance(self.resized, int):
            size = shorter_side_resized(height, width, self.resized)
        else:
            size = self.resized or region[2:]
        crop = None if self.crop is None else central_crop(size, self.crop)
        return View(region, size, crop, self.flip is not None and rng.random() < self.flip)

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of every view; None if they depend on the image."""
        return self.crop or (self.resized if isinstance(self.resized, tuple) else None)

    def numbers(self) -> npt.NDArray[np.float64]:
        """Return the numbers of `struct geometry` in geometry.h."""
        scale, ratio = self.area or ((0.0, 0.0), (0.0, 0.0))
        low, high = map(math.log, ratio) if self.area else (0.0, 0.0)
        resized = (self.resized, 0) if isinstance(self.resized, int) else self.resized or (0, 0)
        crops = (scale[0], scale[1] - scale[0], *ratio, low, high - low)
        return np.array([*crops, *resized, *(self.crop or (0, 0)), self.flip or 0.0], np.float64)


class Planned(Protocol):
    """A transform whose view depends on the size of the image and on random numbers alone, not on pixels.

    Attributes:
        geometry: draws the view of an image.
        interpolation: interpolation for resizing the view.
        after: function that makes the result from the view, uint8 [3, height, width], and from a generator in its state
            after `geometry.plan`; None if the view is the result.
        pixel_table: float32 [3, 256], the result of `after` for each value of each channel; None if its result depends
            on anything else.
    """

    @property
    def geometry(self) -> Geometry:  # see the class
        ...

    @property
    def interpolation(self) -> Any:  # see the class
        ...

    @property
    def after(self) -> Callable[[torch.Tensor, np.random.Generator], Any] | None:  # see the class
        ...

    @property
    def pixel_table(self) -> npt.NDArray[np.float32] | None:  # see the class
        ...

    def __call__(self, image: Any, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        """Apply the complete transform, the view and `after`, to an image uint8 [3, height, width]."""
        ...
