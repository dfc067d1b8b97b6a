"""What a transform wants to see of an image, as data: decided from its size alone, before anything is decoded.

So an image may be decoded at a fraction of its size where the view is smaller still (``decode="scaled"``), and a
decoder that can decode a region would find here which.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torchvision.transforms.v2 import functional as kernels
from torchvision.transforms.v2.functional import InterpolationMode

__all__ = ["Planned", "View", "seen"]


class View(NamedTuple):
    """A region of the image, resized, then cropped, then perhaps flipped. All in pixels.

    Attributes:
        region: top, left, height, width in the whole image.
        resized: height and width that the region is resized to.
        crop: top, left, height, width of that; None for all.
    """

    region: tuple[int, int, int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int] | None
    flip: bool

    def factor(self) -> int:
        """By how much the image may be decoded smaller, 1, 2, 4 or 8, with the region still larger than its result."""
        return next(
            (
                factor
                for factor in (8, 4, 2)
                if self.region[2] >= factor * self.resized[0] and self.region[3] >= factor * self.resized[1]
            ),
            1,
        )

    def shrunk(self, height: int, width: int, factor: int) -> "View":
        """The same view of an image that was decoded `factor` times smaller, to (height, width)."""
        if factor == 1:
            return self
        top, left, tall, wide = self.region
        first, last = round(top / factor), min(height, round((top + tall) / factor))
        start, end = round(left / factor), min(width, round((left + wide) / factor))
        return self._replace(region=(first, start, last - first, end - start))


@runtime_checkable
class Planned(Protocol):
    """A transform whose view follows from the image's size and the random numbers."""

    interpolation: Any

    def __call__(self, image: Any, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        """The whole transform."""
        ...

    def plan(self, height: int, width: int, rng: np.random.Generator) -> View:
        """What it will show of an image of this size."""
        ...


def seen(image: torch.Tensor, view: View, interpolation: str) -> torch.Tensor:
    """The view of an image uint8 (3, height, width)."""
    top, left, height, width = view.region
    if (height, width) != image.shape[1:]:
        # a dense crop, channels last: torchvision's kernel takes two thirds of the time that it takes for a view
        image = image[:, top : top + height, left : left + width][None].contiguous(memory_format=torch.channels_last)[0]
    image = kernels.resize_image(image, list(view.resized), InterpolationMode(interpolation))
    if view.crop is not None:
        top, left, height, width = view.crop
        image = image[:, top : top + height, left : left + width]
    return image.flip(-1) if view.flip else image
