"""Rendering of several JPEGs into rows of a batch by one call of the native kernel, without the GIL."""

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from mps_shards import native
from mps_shards.batching.host_batch import HostBatch, ImageFormat
from mps_shards.native import Loaded, Loading
from mps_shards.reading.batch_plan import Spans
from mps_shards.shards.raw_sample import Buffer
from mps_shards.vision.pixel_budget import LIMIT
from mps_shards.vision.transforms.sample_transform import SampleTransform
from mps_shards.vision.views import HAS_UINT8_KERNELS, View

__all__ = ["LARGEST_RENDERED", "Renderable", "Renderer", "log_inexact_resizing"]

# Images with at least this many pixels are not rendered by the kernel: Python decodes them, within the pixel budget.
LARGEST_RENDERED = LIMIT // 4

_log = logging.getLogger("mps_shards")


class Renderable(NamedTuple):
    """An image that the native kernel may be able to render.

    Attributes:
        row: row of the batch that receives the pixels.
        key: key of the sample, for error messages.
        image: the encoded image.
        view: part of the image that is shown, and its size in the batch.
        factor: the JPEG is decoded smaller by this factor: 1, 2, 4 or 8.
    """

    row: int
    key: str
    image: Buffer
    view: View
    factor: int


class Renderer:
    """Renders images in one thread. The native kernel declines unusual images; the caller decodes them in Python.

    Args:
        max_pixels: limit for the pixels of an image; the kernel declines larger ones.
        pixel_table: float32 [3, 256], the transform's result for each value of each channel, if the transform
            returns floats; see `Planned.pixel_table`.
    """

    def __init__(self, max_pixels: int, pixel_table: npt.NDArray[np.float32] | None = None):
        self._max_pixels, self._pixel_table = max_pixels, pixel_table
        self._dtype = torch.uint8 if pixel_table is None else torch.float32  # dtype of the transform's result
        self._decoder = native.Decoder()
        self._table: tuple[ImageFormat, npt.NDArray[np.float32] | None] | None = None

    def __call__(self, batch: HostBatch, images: Iterable[Renderable]) -> set[int]:
        """Write images into their rows of the batch, and return the rows that were written.

        Images whose size in the batch differs from that of the first image are left out.
        """
        done: set[int] = set()
        shape: tuple[int, int, int] | None = None
        unit: list[Renderable] = []
        for image in images:
            height, width = image.view.crop[2:] if image.view.crop else image.view.resized
            shape = shape or (3, height, width)
            if shape == (3, height, width):  # the rows of a batch have one shape
                unit.append(image)
        if shape is not None and (rows := batch.image_rows(shape, unit[0].key, self._dtype)) is not None:
            done.update(self._rendered(batch.image_format, rows, unit))
        return done

    def load(
        self,
        batch: HostBatch,
        shape: tuple[int, int] | None,
        spans: Spans,
        *,
        first: int,
        loading: Loading,
    ) -> Loaded | None:
        """Write the images of consecutive rows into the batch; None if the batch has images of another shape.

        Args:
            shape: height and width of the images in the batch; None if they are those of its first image, which the
                batch holds already.
            spans: places of the samples in open tars.
            first: row of the first sample.
        """
        if shape is None and batch.image_shape is not None:
            shape = batch.image_shape[1], batch.image_shape[2]
        rows = None if shape is None else batch.image_rows((3, *shape), "", self._dtype)
        if rows is None:
            return None
        return self._decoder.load(
            spans,
            loading,
            rows[first : first + len(spans)],
            layout=_layout(batch.image_format, rows),
            table=self._table_for(batch.image_format, rows),
        )

    def view(self, image: Buffer, view: View) -> torch.Tensor | None:
        """Return the view of an image, uint8 [3, height, width]; None if the kernel declines the image."""
        crop = view.crop or (0, 0, *view.resized)
        pixels = np.empty((1, 3, *crop[2:]), np.uint8)
        numbers = np.array([(*view.region, *view.resized, *crop, view.flip, 1)], np.int32)
        layout, max_pixels = native.Layout.BYTE_PLANES, min(self._max_pixels, LARGEST_RENDERED - 1)
        outcomes = self._decoder.render([image], numbers, pixels, layout=layout, max_pixels=max_pixels)
        return torch.from_numpy(pixels[0]) if outcomes[0] else None

    def _rendered(self, image_format: ImageFormat, rows: npt.NDArray[Any], unit: list[Renderable]) -> Iterable[int]:
        first, last = unit[0].row, unit[-1].row
        images: list[Buffer | None] = [None] * (last - first + 1)
        views = np.zeros((len(images), native.VIEW_NUMBERS), np.int32)
        for row, _, image, (region, resized, crop, flip), factor in unit:
            images[row - first] = image
            views[row - first] = (*region, *resized, *(crop or (0, 0, *resized)), flip, factor)
        finished = self._decoder.render(
            images,
            views,
            rows[first : last + 1],
            layout=_layout(image_format, rows),
            table=self._table_for(image_format, rows),
            max_pixels=self._max_pixels,
        )
        return (first + at for at, is_done in enumerate(finished) if is_done)

    def _table_for(self, image_format: ImageFormat, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
        """Return float32 [3, 256], the result for each value of each channel; None for value / 255."""
        if self._pixel_table is not None or rows.dtype == np.uint8:
            return self._pixel_table
        if self._table is None or self._table[0] is not image_format:
            table = None
            if image_format.normalize is not None:
                mean, std = image_format.normalize
                values = torch.arange(256, dtype=torch.float32).expand(3, 1, 256).div(255)
                table = values.sub(mean).div(std).reshape(3, 256).numpy()
            self._table = (image_format, table)
        return self._table[1]


def _layout(image_format: ImageFormat, rows: npt.NDArray[Any]) -> native.Layout:
    if rows.dtype == np.float32:
        return native.Layout.FLOAT_PIXELS if image_format.channels_last else native.Layout.FLOAT_PLANES
    return native.Layout.BYTE_PIXELS if image_format.channels_last else native.Layout.BYTE_PLANES


def log_inexact_resizing(transform: SampleTransform) -> None:
    """Log a warning if torch resizes images in float arithmetic, which can change a pixel by 1 of 255."""
    if transform.adapters and transform.is_view and not HAS_UINT8_KERNELS and not native.is_available():
        _log.warning(
            "torch has no uint8 kernels for this processor, so images are resized in float arithmetic, and pixels may "
            "differ by 1 of 255 from those of other machines: %s",
            native.advice(),
        )
