"""Palettes: the label id of each colour of a mask."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mps_shards.errors import ConfigError, StorageError

__all__ = ["PALETTES", "Palette", "find_palette"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours of masks and their label ids.

    Attributes:
        colours: rows of red, green, blue and label id.
        names: names of the classes 0, 1, …; empty if the classes have no names.
    """

    colours: tuple[tuple[int, int, int, int], ...] = field(repr=False)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ids: dict[tuple[int, ...], int] = {}
        for *colour, number in self.colours:
            if not all(0 <= value <= 255 for value in colour) or not 0 <= number < 1 << 16:
                raise ConfigError(f"colour {tuple(colour)}, id {number}: colours go from 0 to 255, ids from 0 to 65535")
            if ids.setdefault(tuple(colour), number) != number:
                raise ConfigError(f"colour {tuple(colour)} has two label ids, {ids[tuple(colour)]} and {number}")
        if not ids:
            raise ConfigError("the palette holds no colours")

    def of_classes(self, count: int) -> tuple[tuple[int, int, int], ...]:
        """Return the colours of the label ids 0 to count - 1; an empty tuple if an id has no colour."""
        colours = {number: (red, green, blue) for red, green, blue, number in reversed(self.colours)}
        return tuple(colours[number] for number in range(count)) if colours.keys() >= set(range(count)) else ()


def find_palette(text: str) -> Palette:
    """Return a palette by name (``voc``, ``cityscapes``) or from a file.

    A text file holds a line ``red green blue [name]`` for each class, in the order of ids. A .csv file has the
    columns r, g, b and optionally id and name. A .json file is ``{"name": [r, g, b], …}``, a list of ``[r, g, b]``,
    or a list of objects with color and optionally id and name.

    Raises:
        ConfigError: there is no palette or file of this name, or the file is malformed.
        StorageError: the file cannot be read.
    """
    if text in PALETTES:
        return PALETTES[text]
    path = Path(text)
    try:
        content = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        known = " and ".join(PALETTES)
        raise ConfigError(f"{text} is neither a file nor a known palette ({known})") from error
    except OSError as error:
        raise StorageError(f"cannot read {text}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{text} is not UTF-8 text") from error
    read = {".json": _from_json, ".csv": _from_csv}.get(path.suffix.lower(), _from_lines)
    try:
        return _palette(read(content))
    except (ConfigError, msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"palette {text}: {error}") from error


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    """One colour of a palette file; a colour without an id gets the next number."""

    color: tuple[int, int, int]
    id: int | None = None
    name: str = ""


def _palette(rows: list[_Row]) -> Palette:
    colours = [(*row.color, number if row.id is None else row.id) for number, row in enumerate(rows)]
    names = {colour[3]: row.name for colour, row in zip(colours, rows, strict=True) if row.name}
    count = next(
        number for number in range(len(names) + 1) if number not in names
    )  # the classes end before the first gap, as 255 is no class
    return Palette(colours=tuple(colours), names=tuple(names[number] for number in range(count)))


def _from_json(text: str) -> list[_Row]:
    content: Any = msgspec.json.decode(text)
    if isinstance(content, dict):
        content = [{"name": name, "color": colour} for name, colour in content.items()]
    elif isinstance(content, list):
        content = [{"color": row} if isinstance(row, list) else row for row in content]
    return msgspec.convert(content, list[_Row])


def _from_csv(text: str) -> list[_Row]:
    table = csv.DictReader(text.splitlines(), skipinitialspace=True)
    table.fieldnames = columns = [name.strip().lower() for name in table.fieldnames or ()]
    if not {"r", "g", "b"} <= set(columns):
        raise ValueError(
            f"the columns must be r, g, b and optionally id and name, not {', '.join(columns) or 'an empty line'}"
        )
    rows = [
        {"color": [row["r"], row["g"], row["b"]], "id": row.get("id") or None, "name": row.get("name") or ""}
        for row in table
    ]
    return msgspec.convert(rows, list[_Row], strict=False)


def _from_lines(text: str) -> list[_Row]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,]+(.*?))?\s*", line)
        if not match:
            raise ValueError(f"line {number} is {line!r}; write red, green, blue and optionally a name")
        rows.append(_Row((int(match[1]), int(match[2]), int(match[3])), None, match[4] or ""))
    return rows


_VOC = """
background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant
sheep sofa train tvmonitor
"""


def _voc() -> list[_Row]:
    """Return the palette of Pascal VOC: bits of the id form each channel's high bits (VOClabelcolormap.m)."""
    rows = []
    for number, name in [*enumerate(_VOC.split()), (255, "void")]:
        red, green, blue = (
            sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(8)) for channel in range(3)
        )
        rows.append(_Row((red, green, blue), number, name))
    return rows


# The 19 classes that Cityscapes evaluates, then the colours that it ignores (cityscapesScripts, helpers/labels.py).
_CITYSCAPES = """
128 64 128 road
244 35 232 sidewalk
70 70 70 building
102 102 156 wall
190 153 153 fence
153 153 153 pole
250 170 30 traffic light
220 220 0 traffic sign
107 142 35 vegetation
152 251 152 terrain
70 130 180 sky
220 20 60 person
255 0 0 rider
0 0 142 car
0 0 70 truck
0 60 100 bus
0 80 100 train
0 0 230 motorcycle
119 11 32 bicycle
"""
_CITYSCAPES_IGNORED = """
0 0 0
111 74 0
81 0 81
250 170 160
230 150 140
180 165 180
150 100 100
150 120 90
0 0 90
0 0 110
"""


def _cityscapes() -> list[_Row]:
    return [*_from_lines(_CITYSCAPES), *(_Row(row.color, 255) for row in _from_lines(_CITYSCAPES_IGNORED))]


PALETTES = {"voc": _palette(_voc()), "cityscapes": _palette(_cityscapes())}
