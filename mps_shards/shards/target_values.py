"""Parsing of the targets for multi-label classification, regression and captions in this package's shard sets.

A multi-label sample has a ``.json`` with {"labels": [class ids, ascending]}, a regression sample a ``.json`` with one
number for each column, and a caption is a ``.txt``. Further keys of a ``.json`` are other columns of the source, and
are ignored.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mps_shards.errors import DecodeError
from mps_shards.shards.manifest import NOT_JSON
from mps_shards.shards.raw_sample import Buffer, RawSample

__all__ = ["caption", "checked_ids", "class_ids", "json_value", "numbers"]


def class_ids(raw: RawSample, *, classes: int = 0) -> tuple[int, ...]:
    """Return the class ids of a multi-label sample, ascending; empty if the sample belongs to no class.

    Args:
        classes: number of classes of the set; 0 if it is not known.

    Raises:
        DecodeError: the class ids are missing, malformed, or not classes of the set.
    """
    return checked_ids(raw, json_value(raw, "json", "labels"), "json:labels", {}, classes=classes)


def numbers(raw: RawSample, columns: Sequence[str]) -> tuple[float, ...]:
    """Return the target of a regression sample, one finite number for each column.

    Raises:
        DecodeError: a number is missing, or is not finite.
    """
    values = []
    for column in columns:
        value = json_value(raw, "json", column)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise DecodeError(f"{raw}: {column} is {str(value)[:40]!r} in its .json, which is not a finite number")
        values.append(float(value))
    return tuple(values)


def caption(raw: RawSample, field: str = "txt") -> str:
    """Return the caption of a sample.

    Raises:
        DecodeError: the caption is missing, or is not UTF-8.
    """
    try:
        return bytes(_field(raw, field)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{raw}: its .{field} is not UTF-8 text") from error


def checked_ids(
    raw: RawSample, value: Any, where: str, names: Mapping[str, int], *, classes: int = 0
) -> tuple[int, ...]:
    """Return the class ids of a list of class ids or class names, ascending and without repetitions.

    Args:
        raw: sample that holds the list, for messages.
        value: the list, as parsed from JSON.
        where: name of the target that holds the list, for messages.
        names: class ids by class name; empty if names are not accepted.
        classes: number of classes of the set; 0 if it is not known.

    Raises:
        DecodeError: the value is not a list, or an item is not a class.
    """
    if not isinstance(value, list):
        raise DecodeError(f"{raw}: {where} is {str(value)[:40]!r}, which is not a list of classes")
    found = set()
    for item in value:
        number = names.get(item, -1) if isinstance(item, str) else item
        if type(number) is not int or not 0 <= number < (classes or 1 << 31):
            known = f"the set has {classes or len(names)} classes" if classes or names else "names need --classes"
            raise DecodeError(f"{raw}: {where} holds {str(item)[:40]!r}, which is not a class ({known})")
        found.add(number)
    return tuple(sorted(found))


def json_value(raw: RawSample, field: str, path: str) -> Any:
    """Return the value in a JSON field at a key, or at nested keys that dots separate, such as ``"pose.x"``.

    Raises:
        DecodeError: the field is missing, malformed, or has no such key.
    """
    content = _field(raw, field)
    try:
        value = msgspec.json.decode(content)
        if isinstance(value, dict) and path in value:  # a column may have a dot in its name
            return value[path]
        for name in path.split("."):
            value = value[name]
    except (*NOT_JSON, KeyError, TypeError) as error:
        reason = "is not JSON" if isinstance(error, NOT_JSON) else f"has no {path!r}"
        raise DecodeError(f"{raw}: its .{field} {reason}") from error
    return value


def _field(raw: RawSample, name: str) -> Buffer:
    if name not in raw.fields:
        raise DecodeError(f"{raw} has no {name} (fields: {raw.listed_fields()})")
    return raw.fields[name]
