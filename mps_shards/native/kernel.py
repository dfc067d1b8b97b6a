"""Rendering of images into rows of a batch by the kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mps_shards.native import build

__all__ = ["UNLABELED", "VIEW_NUMBERS", "Decoder", "Layout", "Loaded", "Loading"]

# int32 numbers of a view, in the order of `struct view` in kernel.h: region (top, left, height, width), resized
# (height, width), crop of the resized region (top, left, height, width), whether it is mirrored, and the factor by
# which the image is decoded smaller (1, 2, 4, 8).
VIEW_NUMBERS = 12
UNLABELED = -1  # label of a sample without the field "cls"


class Layout(IntEnum):
    """Memory layout of an image in its row; see `enum layout` in resize.h."""

    FLOAT_PLANES = 0  # float32 [3, height, width], 0..1
    FLOAT_PIXELS = 1  # float32 [height, width, 3]
    BYTE_PLANES = 2  # uint8 [3, height, width]
    BYTE_PIXELS = 3  # uint8 [height, width, 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Properties that all samples of a call of `Decoder.load` share.

    Attributes:
        geometry: float64 [11], numbers of `struct geometry` in geometry.h, which draws the views.
        seed, epoch: key of the random numbers, see `mps_shards.vision.randomness`.
        most_label: the highest class number, or `UNLABELED` for samples without a class.
        scaled: decode JPEGs no larger than the view shows them.
        max_pixels: limit for the pixels of an image; larger images are declined before memory is allocated.
    """

    geometry: npt.NDArray[np.float64]
    seed: int
    epoch: int
    most_label: int
    scaled: bool
    max_pixels: int


class Loaded(NamedTuple):
    """Result of `Decoder.load`.

    Attributes:
        outcomes: a byte for each sample, as `Decoder.render` returns them: 0 where the sample was declined.
        keys: key of each sample; empty where it was declined.
        labels: class number of each sample, or `UNLABELED`.
        nbytes: size of all fields of the loaded samples.
        read_s: seconds that reading took.
    """

    outcomes: bytes
    keys: list[str]
    labels: list[int]
    nbytes: int
    read_s: float


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
        sides = _sides(destination, layout)
        outcomes: bytes = self._module.render(
            self._decoder, images, views, destination, layout, *sides, table, max_pixels
        )
        return outcomes

    def load(
        self,
        spans: npt.NDArray[np.int64],
        loading: Loading,
        destination: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
        *,
        layout: Layout,
        table: npt.NDArray[np.float32] | None = None,
    ) -> Loaded:
        """Read samples of open tars, draw their views, and render their images, in one call without the GIL.

        Args:
            spans: int64 [samples, 4], descriptor of the tar, offset and size of each sample, and its position in the
                epoch's sequence.
            destination: contiguous rows in this layout, at least one for each sample.
            table: float32 [3, 256], the result for each value of each channel, instead of value / 255.

        A sample is declined if it cannot be read, if it is unusual in any way (see sample.h), if its label is not as
        `loading` says, or if its image is one that `render` declines.

        Raises:
            ValueError: the sizes do not match, or another thread is using this object.
        """
        if spans.dtype != np.int64 or spans.shape[1:] != (4,):
            raise ValueError(f"spans are {spans.dtype} {spans.shape}, not int64 (samples, 4)")
        return Loaded(
            *self._module.load(
                self._decoder,
                spans,
                loading.geometry,
                loading.seed,
                loading.epoch,
                loading.most_label,
                loading.scaled,
                destination,
                layout,
                *_sides(destination, layout),
                table,
                loading.max_pixels,
            )
        )


def _sides(rows: npt.NDArray[np.float32] | npt.NDArray[np.uint8], layout: Layout) -> tuple[int, int]:
    """Return height and width of the images in some rows. Raises ValueError if the rows do not have this layout."""
    if rows.dtype != (np.uint8 if layout >= Layout.BYTE_PLANES else np.float32) or rows.ndim != 4:
        raise ValueError(f"rows are {rows.dtype} {rows.shape}, which is not {layout.name}")
    height, width = rows.shape[2:] if layout in (Layout.FLOAT_PLANES, Layout.BYTE_PLANES) else rows.shape[1:3]
    if rows.shape[1:] not in ((3, height, width), (height, width, 3)):
        raise ValueError(f"rows {rows.shape} do not hold three channels")
    return height, width
