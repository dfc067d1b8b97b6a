"""Contact sheets: pictures side by side with captions and a legend of colours."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mps_shards.errors import ConfigError
from mps_shards.inspect.palette_colours import IGNORED, Colour

__all__ = ["Sheet", "Tile", "contact_sheet", "file_bytes", "jpeg_bytes", "shrunk", "shrunk_mask"]

Pixels = npt.NDArray[np.uint8]
Sheet: TypeAlias = Image.Image

_PAPER, _INK, _FAINT, _EMPTY = (250, 250, 247), (28, 30, 34), (120, 122, 128), (233, 232, 227)
_GAP, _NEAR, _MARGIN, _RADIUS = 18, 6, 36, 10
_CAPTION, _TITLE, _LEGEND = 30, 84, 28
_SMOOTH = 4  # corners are drawn at this multiple of their size and scaled down, for smooth edges


class Tile(NamedTuple):
    """One cell of a contact sheet.

    Attributes:
        pictures: uint8 (height, width, 3), RGB, of any sizes, drawn side by side; None leaves a cell empty.
        colour: colour of the dot before the caption; None for no dot.
    """

    pictures: Sequence[Pixels | None]
    caption: str
    colour: Colour | None = None


def contact_sheet(
    tiles: Sequence[Tile],
    *,
    title: str,
    subtitle: str = "",
    columns: int = 8,
    size: int = 160,
    legend: Mapping[str, Colour] | None = None,
) -> Sheet:
    """Draw a contact sheet. Each picture is scaled to fit its cell and never cropped.

    Args:
        tiles: at least one cell; all cells have equally many pictures.
        columns: maximum number of cells in a row.
        size: side of a picture's square cell in pixels.
        legend: colours by name, shown under the title.
    """
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    each = len(tiles[0].pictures)
    wide = each * (size + _NEAR) - _NEAR
    width = max(2 * _MARGIN + columns * (wide + _GAP) - _GAP, 2 * _MARGIN + round(_font(28).getlength(title)))
    lines = _legend_lines(legend or {}, width - 2 * _MARGIN)
    top = _MARGIN + _TITLE + (len(lines) * _LEGEND + _GAP if lines else 0)
    sheet = Image.new("RGB", (width, top + rows * (size + _CAPTION + _GAP) - _GAP + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _INK, _font(28))
    draw.text((_MARGIN, _MARGIN + 34), _fitted(subtitle, width - 2 * _MARGIN, _font(17)), _FAINT, _font(17))
    for number, line in enumerate(lines):
        _draw_legend(draw, line, _MARGIN + _TITLE + number * _LEGEND)
    for number, tile in enumerate(tiles):
        left = _MARGIN + number % columns * (wide + _GAP)
        above = top + number // columns * (size + _CAPTION + _GAP)
        for place, picture in enumerate(tile.pictures):
            _paste(sheet, draw, picture, left + place * (size + _NEAR), above, size)
        _draw_caption(draw, tile, left, above + size + _CAPTION // 2 + 2, wide)
    return sheet


def shrunk(pixels: Pixels, longest: int) -> Pixels:
    """Shrink a picture so that its longer side has at most this many pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(image)


def shrunk_mask(mask: npt.NDArray[np.integer], size: tuple[int, ...]) -> npt.NDArray[np.integer]:
    """Resize a label map to (height, width) by nearest neighbour, so that no new label ids appear."""
    rows, columns = (
        ((np.arange(small) + 0.5) * side / small).astype(int) for side, small in zip(mask.shape, size, strict=True)
    )
    found: npt.NDArray[np.integer] = mask[rows][:, columns]
    return found


def file_bytes(sheet: Sheet, suffix: str) -> bytes:
    """Encode a sheet as the content of an image file.

    Raises:
        ConfigError: `suffix` is none of ``.png``, ``.jpg``, ``.jpeg``, ``.webp``.
    """
    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if suffix.lower() not in kinds:
        raise ConfigError(f"a sheet is written as {', '.join(kinds)}, not as {suffix or 'a file without extension'}")
    stream = io.BytesIO()
    sheet.save(stream, kinds[suffix.lower()], quality=90, optimize=True)
    return stream.getvalue()


def jpeg_bytes(pixels: Pixels, longest: int) -> bytes:
    """Encode a picture as a JPEG whose longer side has at most this many pixels."""
    return file_bytes(Image.fromarray(shrunk(pixels, longest)), ".jpg")


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Pixels | None, x: int, y: int, size: int) -> None:
    if picture is None:
        draw.rounded_rectangle((x, y, x + size - 1, y + size - 1), _RADIUS, _EMPTY)
        draw.text((x + size // 2, y + size // 2), "not readable", _FAINT, _font(15), anchor="mm")
        return
    image = Image.fromarray(picture)
    scale = size / max(image.size)
    fitted = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(fitted, Image.Resampling.LANCZOS)
    sheet.paste(image, (x, y + size - fitted[1]), _rounded(*fitted))  # on its caption


def _draw_caption(draw: ImageDraw.ImageDraw, tile: Tile, x: int, middle: int, wide: int) -> None:
    start = x
    if tile.colour is not None:
        draw.ellipse((start, middle - 5, start + 10, middle + 5), tile.colour)
        start += 18
    draw.text((start, middle), _fitted(tile.caption, x + wide - start, _font(16)), _INK, _font(16), anchor="lm")


def _draw_legend(draw: ImageDraw.ImageDraw, line: Sequence[tuple[int, str, Colour]], y: int) -> None:
    for x, name, colour in line:
        draw.rounded_rectangle((x, y, x + 14, y + 14), 4, colour)
        if colour == IGNORED:
            draw.line((x + 3, y + 11, x + 11, y + 3), _PAPER, 2)
        draw.text((x + 22, y + 7), name, _INK, _font(16), anchor="lm")


def _legend_lines(legend: Mapping[str, Colour], width: int) -> list[list[tuple[int, str, Colour]]]:
    """Break the legend into lines of limited width; gives each entry with its horizontal position."""
    lines: list[list[tuple[int, str, Colour]]] = []
    x = width
    for name, colour in legend.items():
        name = _fitted(name, width - 22, _font(16))
        long = 22 + round(_font(16).getlength(name)) + 24
        if not lines or x + long - 24 > _MARGIN + width:
            lines.append([])
            x = _MARGIN
        lines[-1].append((x, name, colour))
        x += long
    return lines


def _fitted(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """Shorten a text to a width by leaving out its middle, because the end of a key matters as much as its start."""
    keep = len(text)
    shown = text
    while keep > 2 and font.getlength(shown) > width:
        keep -= 1
        shown = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
    return shown


@cache
def _rounded(width: int, height: int) -> Image.Image:
    mask = Image.new("L", (_SMOOTH * width, _SMOOTH * height))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *(side - 1 for side in mask.size)), _SMOOTH * _RADIUS, 255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)  # Pillow carries it
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font
