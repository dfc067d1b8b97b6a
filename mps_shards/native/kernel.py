"""Rendering of images into rows of a batch by the kernel."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from mps_shards.native import build

__all__ = ["VIEW_NUMBERS", "Decoder", "Layout"]

# int32 numbers of a view, in the order of `struct view` in kernel.h: region (top, left, height, width), resized
# (height, width), crop of the resized region (top, left, height, width), whether it is mirrored, and the factor by
# which the image is decoded smaller (1, 2, 4, 8).
VIEW_NUMBERS = 12


class Layout(IntEnum):
    """Memory layout of an image in its row; see `enum layout` in resize.h."""

    FLOAT_PLANES = 0  # float32 [3, height, width], 0..1
    FLOAT_PIXELS = 1  # float32 [height, width, 3]
    BYTE_PLANES = 2  # uint8 [3, height, width]
    BYTE_PIXELS = 3  # uint8 [height, width, 3]


class Decoder:
    """Renders images in one thread; its buffers and tables are reused by later calls.

    Args:
        portable: use passes that run on every processor, and libjpeg-turbo's Huffman decoder, instead of the fastest.

    Raises:
        ConfigError: the kernel is not built.
    """

    def __init__(self, *, portable: bool = False):
        self._module = build.module()
        self._decoder = self._module.decoder(portable)

    def render(
        self,
        images: Sequence[bytes | memoryview | None],
        views: npt.NDArray[np.int32],
        destination: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
        *,
        layout: Layout,
        table: npt.NDArray[np.float32] | None = None,
        max_pixels: int,
    ) -> bytes:
        """Decode, resize (bilinear, antialiased), crop, mirror and convert each image, in one call without the GIL.

        Args:
            images: encoded images; None leaves a row unchanged.
            views: int32 [images, VIEW_NUMBERS].
            destination: contiguous rows in this layout, at least one for each image.
            table: float32 [3, 256], the result for each value of each channel, instead of value / 255.
            max_pixels: limit for the pixels of an image; larger images are declined before memory is allocated.

        Returns:
            A byte for each image: 0 where the kernel declined and the row may be partly written, 2 where its own
            Huffman decoder was used for a finished row, 1 where that of libjpeg-turbo was used. The kernel declines
            every image that is not a flawless JPEG of gray or YCbCr.

        Raises:
            ValueError: the sizes do not match, or another thread is using this object.
        """
        if views.dtype != np.int32 or views.shape != (len(images), VIEW_NUMBERS):
            raise ValueError(f"views are {views.dtype} {views.shape}, not int32 ({len(images)}, {VIEW_NUMBERS})")
        if destination.dtype != (np.uint8 if layout >= Layout.BYTE_PLANES else np.float32) or destination.ndim != 4:
            raise ValueError(f"rows are {destination.dtype} {destination.shape}, which is not {layout.name}")
        height, width = destination.shape[2:] if layout in (0, 2) else destination.shape[1:3]
        if destination.shape[1:] not in ((3, height, width), (height, width, 3)):
            raise ValueError(f"rows {destination.shape} do not hold three channels")
        done: bytes = self._module.render(
            self._decoder, images, views, destination, layout, height, width, table, max_pixels
        )
        return done
