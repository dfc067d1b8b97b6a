"""Contact sheets: pictures side by side with captions and a legend of colours."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mps_shards.errors import ConfigError
from mps_shards.inspect.palette_colours import IGNORED, Colour

__all__ = ["Sheet", "Tile", "contact_sheet", "file_bytes", "jpeg_bytes", "sheet_format", "shrunk", "shrunk_mask"]

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
    """Draw a contact sheet in justified rows: pictures keep their shape, are never cropped, and fill each row.

    Args:
        tiles: at least one cell; all cells have equally many pictures.
        columns: number of square cells that fit in a row; sets the width of the sheet.
        size: height of a row in pixels, before the row is stretched to the width of the sheet.
        legend: colours by name, shown under the title.
    """
    each = len(tiles[0].pictures)
    inner = min(columns, len(tiles)) * (each * (size + _NEAR) - _NEAR + _GAP) - _GAP
    width = max(inner, round(_font(28).getlength(title))) + 2 * _MARGIN
    rows = _justified([_Shape.of(tile) for tile in tiles], width - 2 * _MARGIN, size)
    lines = _legend_lines(legend or {}, width - 2 * _MARGIN)
    top = _MARGIN + _TITLE + (len(lines) * _LEGEND + _GAP if lines else 0)
    height = top + sum(row.height + _CAPTION + _GAP for row in rows) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _INK, _font(28))
    draw.text((_MARGIN, _MARGIN + 34), _fitted(subtitle, width - 2 * _MARGIN, _font(17)), _FAINT, _font(17))
    for number, line in enumerate(lines):
        _draw_legend(draw, line, _MARGIN + _TITLE + number * _LEGEND)
    above, waiting = top, iter(tiles)
    for row in rows:
        left = _MARGIN
        for widths, tile in zip(row.widths, itertools.islice(waiting, len(row.widths)), strict=True):
            x = left
            for wide, picture in zip(widths, tile.pictures, strict=True):
                _paste(sheet, draw, picture, (x, above, wide, row.height))
                x += wide + _NEAR
            _draw_caption(draw, tile, left, above + row.height + _CAPTION // 2 + 2, x - _NEAR - left)
            left = x - _NEAR + _GAP
        above += row.height + _CAPTION + _GAP
    return sheet


class _Shape(NamedTuple):
    """Width of a cell at height 1 (`slope`), and pixels between its pictures (`gaps`)."""

    ratios: tuple[float, ...]
    gaps: int

    @classmethod
    def of(cls, tile: Tile) -> "_Shape":
        # a picture that is far wider or taller than others would make its row too flat or itself too narrow
        ratios = tuple(1.0 if picture is None else _ratio(picture) for picture in tile.pictures)
        return cls(ratios, _NEAR * (len(ratios) - 1))


class _Row(NamedTuple):
    """Height of a row, and the widths of the pictures of each of its cells."""

    height: int
    widths: list[tuple[int, ...]]


def _ratio(picture: Pixels) -> float:
    return float(min(4.0, max(0.4, picture.shape[1] / picture.shape[0])))


def _justified(shapes: Sequence[_Shape], width: int, size: int) -> list[_Row]:
    """Break cells into rows whose height is close to `size` and that fill `width`, the last one excepted."""
    rows: list[_Row] = []
    pending: list[_Shape] = []
    for shape in shapes:
        pending.append(shape)
        height = _height(pending, width)
        if height > size:
            continue
        without = _height(pending[:-1], width) if len(pending) > 1 else math.inf
        if without - size < size - height:  # closer to the wanted height without the last cell
            rows.append(_row(pending[:-1], without))
            pending = [shape]
        else:
            rows.append(_row(pending, height))
            pending = []
    if pending:
        rows.append(_row(pending, min(float(size), _height(pending, width))))
    return rows


def _height(shapes: Sequence[_Shape], width: int) -> float:
    gaps = sum(shape.gaps for shape in shapes) + _GAP * (len(shapes) - 1)
    return max(1.0, (width - gaps) / sum(sum(shape.ratios) for shape in shapes))


def _row(shapes: Sequence[_Shape], height: float) -> _Row:
    """Return the row with widths rounded so that their errors do not add up towards its right end."""
    widths: list[tuple[int, ...]] = []
    exact, used = 0.0, 0
    for shape in shapes:
        cell = []
        for ratio in shape.ratios:
            exact += ratio * height
            cell.append(max(1, round(exact) - used))
            used += cell[-1]
        widths.append(tuple(cell))
    return _Row(max(1, round(height)), widths)


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


def sheet_format(path: Path) -> str:
    """Return Pillow's name for the format of an image file that is to be written.

    Raises:
        ConfigError: the name ends in none of ``.png``, ``.jpg``, ``.jpeg``, ``.webp``.
    """
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    if path.suffix.lower() not in formats:
        wrong = path.suffix or "a file without extension"
        raise ConfigError(f"a sheet is written as {', '.join(formats)}, not as {wrong}")
    return formats[path.suffix.lower()]


def file_bytes(sheet: Sheet, kind: str) -> bytes:
    """Encode a sheet as the content of an image file in this format of Pillow."""
    stream = io.BytesIO()
    sheet.save(stream, kind, quality=90, optimize=True)
    return stream.getvalue()


def jpeg_bytes(pixels: Pixels, longest: int) -> bytes:
    """Encode a picture as a JPEG whose longer side has at most this many pixels."""
    return file_bytes(Image.fromarray(shrunk(pixels, longest)), "JPEG")


def _paste(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Pixels | None, box: tuple[int, int, int, int]
) -> None:
    x, y, width, height = box
    if picture is None:
        draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), _RADIUS, _EMPTY)
        draw.text((x + width // 2, y + height // 2), "not readable", _FAINT, _font(15), anchor="mm")
        return
    image = Image.fromarray(picture)
    scale = min(width / image.width, height / image.height)
    # a rounding error of a pixel is removed by stretching, so that all pictures of a row end on the same line
    wide, tall = (round(side * scale) for side in image.size)
    fitted = (width if abs(wide - width) <= 2 else max(1, wide), height if abs(tall - height) <= 2 else max(1, tall))
    image = image.resize(fitted, Image.Resampling.LANCZOS)
    sheet.paste(image, (x + (width - fitted[0]) // 2, y + height - fitted[1]), _rounded(*fitted))


def _draw_caption(draw: ImageDraw.ImageDraw, tile: Tile, x: int, middle: int, wide: int) -> None:
    start = x
    if tile.colour is not None:
        draw.ellipse((start, middle - 5, start + 10, middle + 5), tile.colour)
        start += 18
    draw.text((start, middle), _fitted(tile.caption, x + wide - start, _font(16)), _INK, _font(16), anchor="lm")


def _draw_legend(draw: ImageDraw.ImageDraw, line: Sequence[tuple[int, str, Colour]], y: int) -> None:
    for x, name, colour in line:
        draw.rounded_rectangle((x, y, x + 14, y + 14), 4, colour, outline=_FAINT if min(colour) > 200 else None)
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
    font = ImageFont.load_default(size)  # the font is part of Pillow
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font
