"""Input of the native kernel in tests, and the results of the kernel and of Python."""

import os

import numpy as np
import numpy.typing as npt
import pytest

from mps_shards import native
from mps_shards.vision.decoding import MAX_PIXELS, decode_image
from mps_shards.vision.views import View, seen_pixels

Pixels = npt.NDArray[np.uint8]


def needs_kernel() -> pytest.MarkDecorator:
    """Skips tests if the kernel is not built, or lets them fail if the kernel is required."""
    required = os.environ.get("MPS_SHARDS_KERNEL") == "required"
    return pytest.mark.skipif(not native.is_available() and not required, reason=native.advice())


def numbers(view: View, factor: int = 1) -> list[int]:
    """Return a view as the numbers that the kernel takes."""
    return [*view.region, *view.resized, *(view.crop or (0, 0, *view.resized)), view.flip, factor]


def by_kernel(content: bytes, view: View, *, factor: int = 1, portable: bool = False) -> Pixels | None:
    """Return the kernel's image uint8 [3, height, width]; None if the kernel declined."""
    height, width = (view.crop or (0, 0, *view.resized))[2:]
    rows = np.zeros((1, 3, height, width), np.uint8)
    done = native.Decoder(portable=portable).render(
        [content],
        np.array([numbers(view, factor)], np.int32),
        rows,
        layout=native.Layout.BYTE_PLANES,
        max_pixels=MAX_PIXELS,
    )
    return rows[0] if done[0] else None


def by_python(content: bytes, view: View, *, factor: int = 1) -> Pixels:
    """Return the same image made with simplejpeg or Pillow, and torch."""
    pixels = decode_image(content, factor=factor)
    return seen_pixels(pixels, view.shrunk(*pixels.shape[:2], factor), "bilinear").numpy()
