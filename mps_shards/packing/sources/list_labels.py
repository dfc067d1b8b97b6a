"""Conversion of the cells of label columns to targets, and doubts about labels."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mps_shards.errors import DataError
from mps_shards.packing.sources.class_folders import too_many_classes
from mps_shards.packing.sources.list_columns import TRUE
from mps_shards.packing.sources.listing import Doubt
from mps_shards.wording import counted

__all__ = ["MOST_CLASSES", "class_number", "doubts_about_labels", "label_names", "label_text", "numbers_of"]

MOST_CLASSES = 1_000_000  # larger numbers are not classes; a manifest with so many names would be 10 MB
_CLASS_NUMBER = re.compile(r"-?\d{1,18}(\.0+)?")  # pandas writes 3.0 if a column has gaps
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_SEPARATORS = ("|", ";", ",", " ")
_MISSING = frozenset(["nan", "na", "n/a", "<na>", "null", "nat", "#n/a"])  # as pandas, R, SQL and Excel write it


def label_text(where: str, given: Any) -> str:
    """Return the text of a label; "" means no label.

    Raises:
        DataError: the label is neither text nor a number.
    """
    if given is None or isinstance(given, str):
        return (given or "").strip()
    if isinstance(given, int | float):
        return str(given).lower() if isinstance(given, bool) else str(given)
    raise DataError(f"{where}: the label {given!r} is neither a name nor a number")


def class_number(text: str) -> int | None:
    """Return the class index that a label states; None if the label is a name."""
    return int(text.partition(".")[0]) if _CLASS_NUMBER.fullmatch(text) else None


def label_names(where: str, cells: Mapping[str, Any], columns: Sequence[str], separator: str | None) -> list[str]:
    """Return the labels of one image that may have several.

    Args:
        columns: one column with lists or separated names, or one column of 0 and 1 for each label.
    """
    if len(columns) > 1:
        texts = {name: label_text(where, cells.get(name)) for name in columns}
        if all(text.lower() in TRUE | {"", "0", "0.0", "false", "no"} for text in texts.values()):
            return [name for name, text in texts.items() if text.lower() in TRUE]
        return [text for text in texts.values() if text]
    given = cells.get(columns[0])
    if isinstance(given, list):
        return [text for each in given if (text := label_text(where, each))]
    text = label_text(where, given)
    between = separator if separator is not None else _likely_separator(text)
    parts = text.split(between) if between else [text]
    return [part.strip() for part in parts if part.strip()]


def numbers_of(where: str, cells: Mapping[str, Any], columns: Sequence[str]) -> dict[str, float | int]:
    """Return the numbers of one image by column.

    Raises:
        DataError: a cell is not a finite number.
    """
    found: dict[str, float | int] = {}
    for name in columns:
        text = label_text(where, cells.get(name))
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            hint = " (decimals need a point)" if _NUMBER.fullmatch(text.replace(",", ".", 1)) else ""
            raise DataError(
                f"{where}: {name} is {text!r}, which is not a number{hint}; correct it, or leave the row out"
            )
        found[name] = int(text) if re.fullmatch(r"[-+]?\d{1,15}", text) else value
    return found


def doubts_about_labels(counts: Mapping[str, int], column: str) -> Iterator[Doubt]:
    """Yield doubts about making each of these labels a class.

    Args:
        counts: number of images with each label.
    """
    images = sum(counts.values())
    named = f"--label-column {_quoted(column)}"
    if missing := [text for text in counts if text.lower() in _MISSING]:
        yield Doubt(
            f"{counted(counts[missing[0]], 'image')} with {missing[0]!r} in column {column!r} would get a class of "
            "this name, which usually means a missing label",
            "remove these rows, or keep the text as a class (--targets class)",
            "content",
        )
    if lists := [text for text in counts if text[:1] == "[" and text[-1:] == "]"]:
        yield Doubt(
            f"labels such as {lists[0]!r} in column {column!r} look like lists",
            "write several labels of an image as cat|dog, and a single one without brackets, or keep each text as one "
            "class (--targets class)",
            "content",
        )
        return
    spelled: dict[str, str] = {}
    if pairs := [(text, one) for text in counts if (one := spelled.setdefault(text.casefold(), text)) != text]:
        yield Doubt(
            f"the labels {pairs[0][1]!r} and {pairs[0][0]!r} in column {column!r} differ only in upper and lower case",
            "write them in the same way, or keep them as different classes (--targets class)",
            "content",
        )
    numbers = [text for text in counts if _NUMBER.fullmatch(text)]
    if len(numbers) == len(counts):
        yield from _doubts_about_numbers(counts, column, images, named)
        return
    separator = _separator(counts)
    if separator is not None:
        example = next(text for text in counts if separator in text)
        yield Doubt(
            f"labels such as {example!r} in column {column!r} look like several labels in one cell",
            f"split them (--targets multi-label --separator {_quoted(separator)}), or keep each text as one class "
            "(--targets class)",
            "content",
        )
        return
    otherwise = "make them texts (--targets caption), name another column (--label-column)"
    doubts = too_many_classes(len(counts), images, otherwise, "--targets class")
    yield from (doubt._replace(about="content") for doubt in doubts)


def _doubts_about_numbers(counts: Mapping[str, int], column: str, images: int, named: str) -> Iterator[Doubt]:
    whole = [class_number(text) for text in counts]
    choices = "predict them as numbers (--targets number), or make each value a class (--targets class)"
    if None in whole:
        example = next(text for text in counts if class_number(text) is None)
        yield Doubt(f"labels such as {example} in column {column!r} are not whole numbers", choices, "content")
        return
    values = sorted(number for number in whole if number is not None)
    has_gaps = values[-1] - values[0] + 1 > 2 * len(values)
    hardly_repeat = len(values) >= 5 and len(values) * 5 >= images * 4
    if has_gaps or hardly_repeat or values[0] < 0:
        shown = ", ".join(map(str, values[:5])) + (" ..." if len(values) > 5 else "")
        cause = "have gaps" if has_gaps else "are negative" if values[0] < 0 else "hardly repeat"
        yield Doubt(f"the whole numbers in column {column!r} ({shown}) {cause}", choices, "content")


def _likely_separator(text: str) -> str | None:
    return next((each for each in _SEPARATORS if each in text), None)


def _separator(labels: Mapping[str, int]) -> str | None:
    """Return the separator of several labels in one cell; None if the texts do not look like several labels."""
    for separator in _SEPARATORS:
        several = [text for text in labels if separator in text]
        if not several:
            continue
        parts = {part.strip() for text in labels for part in text.split(separator) if part.strip()}
        if separator in "|;" or (len(several) > 1 and len(parts) < len(labels)):
            return separator
        alone = sum(all(part.strip() in labels for part in text.split(separator)) for text in several)
        if alone == len(several):
            return separator
    return None


def _quoted(text: str) -> str:
    return f"'{text}'" if " " in text or not text.isalnum() else text
