"""Views, the parts of images that transforms show, drawn from the size of an image before it is decoded.

A decoder that knows the view decodes only its region, or the image at a fraction of its size (``decode="scaled"``).
"""

import math
import platform
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.torch_version import TorchVersion
from torchvision.transforms.v2 import functional as kernels
from torchvision.transforms.v2.functional import InterpolationMode

__all__ = ["HAS_UINT8_KERNELS", "View", "seen", "seen_pixels"]

_resize = torch.ops.aten._upsample_bilinear2d_aa.default

# Whether torch has kernels that resize uint8 on this processor, and torchvision uses them. For arm64, torch has them
# since 2.12, and torchvision uses them since 0.27 (pytorch/pytorch#176217, pytorch/vision#9439).
HAS_UINT8_KERNELS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") or (
    platform.machine() in ("aarch64", "arm64") and TorchVersion(torch.__version__) >= "2.12"
)


Pixels: TypeAlias = npt.NDArray[np.uint8]


class View(NamedTuple):
    """The part of an image that a transform shows: a region that is resized, then cropped, then flipped.

    Attributes:
        region: top, left, height and width of the region, in pixels of the image.
        resized: height and width to which the region is resized.
        crop: top, left, height and width of the crop, in pixels of the resized region; None for no crop.
        flip: whether the result is flipped horizontally.
    """

    region: tuple[int, int, int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int] | None
    flip: bool

    def factor(self) -> int:
        """Return the factor (1, 2, 4 or 8) by which the image may be decoded smaller without being enlarged later."""
        return next(
            (
                factor
                for factor in (8, 4, 2)
                if self.region[2] >= factor * self.resized[0] and self.region[3] >= factor * self.resized[1]
            ),
            1,
        )

    def shrunk(self, height: int, width: int, factor: int) -> "View":
        """Return the same view for an image that was decoded smaller by a factor, to this height and width."""
        if factor == 1:
            return self
        top, left, tall, wide = self.region
        first, start = round(top / factor), round(left / factor)
        last = max(first + 1, min(height, round((top + tall) / factor)))
        end = max(start + 1, min(width, round((left + wide) / factor)))
        return self._replace(region=(first, start, last - first, end - start))


def seen(image: torch.Tensor, view: View, interpolation: str) -> torch.Tensor:
    """Return the view of an image uint8 [3, height, width], as a tensor uint8 [3, height, width]."""
    if image.dtype == torch.uint8 and image.is_cpu:
        return seen_pixels(image.permute(1, 2, 0).numpy(), view, interpolation)
    return _seen_by_torchvision(image, view, interpolation)


def seen_pixels(pixels: Pixels, view: View, interpolation: str) -> torch.Tensor:
    """Return the view of an image uint8 [height, width, 3], as a tensor uint8 [3, height, width].

    NumPy does the slicing, because torch releases the GIL for each slice and waits for other threads to get it back.
    """
    if interpolation != "bilinear" or not HAS_UINT8_KERNELS:
        return _seen_by_torchvision(torch.from_numpy(pixels.transpose(2, 0, 1)), view, interpolation)
    image = _resized(pixels, view)
    return image.flip(-1) if view.flip else image


def _seen_by_torchvision(image: torch.Tensor, view: View, interpolation: str) -> torch.Tensor:
    if view.region[2:] != image.shape[1:]:
        # torchvision's kernel takes two thirds of the time on a dense channels-last copy that it takes on a slice
        image = _cropped(image, view.region)[None].contiguous(memory_format=torch.channels_last)[0]
    image = kernels.resize_image(image, list(view.resized), InterpolationMode(interpolation))
    if view.crop is not None:
        image = _cropped(image, view.crop)
    return image.flip(-1) if view.flip else image


def _cropped(image: torch.Tensor, region: tuple[int, int, int, int]) -> torch.Tensor:
    top, left, height, width = region
    return image[:, top : top + height, left : left + width]


def _resized(pixels: Pixels, view: View) -> torch.Tensor:
    """Return the resized and cropped region, uint8 [3, height, width], by a direct call of torchvision's uint8 kernel.

    The kernel starts at the top left. It does not compute the pixels to the right of the crop and below it.
    """
    top, left, height, width = view.region
    rows = pixels[top : top + height, left : left + width]
    top, left, tall, wide = view.crop or (0, 0, *view.resized)
    bottom, right = top + tall, left + wide
    if view.resized != (height, width):
        down, down_scale = _end(bottom, height, view.resized[0])
        across, across_scale = _end(right, width, view.resized[1])
        # Torch's kernel takes 1.5 times as long for memory that is not dense. The reshape, unlike a new axis, gives the
        # strides of a channels-last batch; otherwise the kernel repacks its result (pytorch/pytorch#68430).
        batch = torch.from_numpy(np.ascontiguousarray(rows).reshape(1, height, width, 3).transpose(0, 3, 1, 2))
        rows = _resize(batch, [down, across], False, down_scale, across_scale).numpy()[0].transpose(1, 2, 0)
    return torch.from_numpy(rows[top:bottom, left:right].transpose(2, 0, 1))


def _end(stop: int, side: int, resized: int) -> tuple[int, float | None]:
    """Return an output length and a scale with which the kernel computes the first `stop` pixels of a side unchanged.

    The kernel computes 1 / scale. If no scale gives exactly ``side / resized``, all pixels are computed, because the
    last bit of this number can change a pixel by one.

    Args:
        stop: number of output pixels that are needed.
        side: length of the side before resizing.
        resized: length of the side after resizing.
    """
    # the kernel rounds by the largest weight of the pixels that it computes: by symmetry, one half has those of all
    stop = max(stop, (resized + 1) // 2)
    stop += stop == side != resized  # the kernel never resizes if the output length equals the side, whatever the scale
    near = resized / side
    for scale in (near, math.nextafter(near, math.inf), math.nextafter(near, 0)):
        if stop < resized and 1 / scale == side / resized:
            return stop, scale
    return resized, None
