"""A contact sheet: the images of a batch, side by side, each with its label."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

__all__ = ["contact_sheet"]

_PAPER, _INK, _FAINT = (250, 250, 247), (28, 30, 34), (120, 122, 128)
_TILE, _GAP, _MARGIN, _RADIUS = 160, 18, 36, 10
_CAPTION, _HEAD = 30, 84
_SMOOTH = 4  # the corners are drawn this much larger, then scaled down


def contact_sheet(
    images: npt.NDArray[np.float32], labels: Sequence[str], *, title: str, subtitle: str, columns: int = 8
) -> Image.Image:
    """Draw a batch.

    Args:
        images: float32 (batch, 3, height, width), RGB, 0..1.
        labels: one for each image; equal ones get the same colour.
    """
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width = 2 * _MARGIN + columns * (_TILE + _GAP) - _GAP
    height = _HEAD + 2 * _MARGIN + rows * (_TILE + _CAPTION + _GAP) - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _INK, _font(28))
    draw.text((_MARGIN, _MARGIN + 34), subtitle, _FAINT, _font(17))
    colours = _colours(sorted(set(labels)))
    mask, font = _rounded(), _font(16)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = _MARGIN + number % columns * (_TILE + _GAP)
        top = _MARGIN + _HEAD + number // columns * (_TILE + _CAPTION + _GAP)
        pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (left, top), mask)
        middle = top + _TILE + _CAPTION // 2 + 2
        draw.ellipse((left + 2, middle - 5, left + 12, middle + 5), colours[label])
        draw.text((left + 20, middle), label, _INK, font, anchor="lm")
    return sheet


def _colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Hues as far apart as they can be, of one lightness."""
    found = {}
    for number, label in enumerate(labels):
        hue = Image.new("HSV", (1, 1), (round(255 * number / len(labels)), 165, 215)).convert("RGB")
        red, green, blue = np.asarray(hue)[0, 0].tolist()
        found[label] = (red, green, blue)
    return found


def _rounded() -> Image.Image:
    side = _SMOOTH * _TILE
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), _SMOOTH * _RADIUS, 255)
    return mask.resize((_TILE, _TILE), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)  # Pillow carries it
