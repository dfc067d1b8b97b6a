"""Conditions on samples, as ``ls --where`` takes them: ``class=cat``, ``json:age>30``, ``txt~dog``, ``mask.png``."""

import fnmatch
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.manifest import Manifest
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shards.target_values import json_value

if TYPE_CHECKING:
    from mps_shards.shardset.contents import Listed

__all__ = ["MAX_TEXT", "Condition", "class_number"]

_PARTS: Final = re.compile(r"\A(!?)([^=<>~!]+?)\s*(?:(!=|<=|>=|=|<|>|~)\s*(.*))?\Z", re.DOTALL)
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MAX_TEXT: Final = 1 << 24  # bytes; limit for a field that is compared


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a sample.

    Attributes:
        name: "class", "key", "shard", "bytes", a column of a regression set, a field, or a JSON value ``json:path``.
        comparison: "=", "!=", "<", "<=", ">", ">=", "~" (contains, ignoring case); "has" or "lacks" for a field.
        value: value to compare with. With "=", keys may be patterns with * and ?, and classes may be numbers.
    """

    name: str
    comparison: str
    value: str

    @classmethod
    def parsed(cls, text: str) -> "Condition":
        """Return the condition that a user wrote.

        Raises:
            ConfigError: the text is not a condition.
        """
        found = _PARTS.match(text.strip())
        if not found or (found[1] and found[3]) or (found[3] and not found[4]):
            raise ConfigError(
                f"{text!r} is not understood: write class=cat, json:age>30, txt~dog, key=train/*, or the name "
                "of a field that samples must have, such as mask.png (!mask.png: must not have)"
            )
        name, comparison, value = found[2].strip(), found[3] or ("lacks" if found[1] else "has"), found[4] or ""
        if comparison in _ORDERS and _number(value) is None:
            raise ConfigError(f"in {text!r}, {value!r} is not a number")
        return cls(name, comparison, value)

    def resolved(self, manifest: Manifest) -> "Condition":
        """Return the condition for a set, with class names as numbers and columns as values of its JSON field.

        Raises:
            ConfigError: the set does not have the class.
        """
        if self.name in manifest.column_names:
            return replace(self, name=f"json:{self.name}")
        if self.name == "class" and self.comparison in ("=", "!="):
            return replace(self, value=str(class_number(manifest, self.value)))
        return self

    @property
    def content(self) -> str | None:
        """Name of the field whose content the condition needs; None if it needs no content."""
        if self.name in ("class", "key", "shard", "bytes") or self.comparison in ("has", "lacks"):
            return None
        return self.name.partition(":")[0].lower()

    def holds(self, sample: "Listed", raw: RawSample) -> bool:
        """Whether a sample fulfils the condition; False if the sample lacks the compared value."""
        if self.comparison in ("has", "lacks"):
            return (self.name.lower() in sample.fields) == (self.comparison == "has")
        if self.name == "class":
            ids = sample.target.get("labels", ()) if isinstance(sample.target, dict) else (sample.label,)
            return (int(self.value) in ids) == (self.comparison == "=")
        value: Any
        if self.name in ("key", "shard"):
            value = getattr(sample, self.name)
        elif self.name == "bytes":
            value = sum(sample.fields.values())
        else:
            value = self._value(raw)
        return value is not None and self._compared(value)

    def _value(self, raw: RawSample) -> Any:
        field, colon, path = self.name.partition(":")
        if field.lower() not in raw.fields:
            return None
        if not colon:
            return bytes(raw.fields[field.lower()]).decode("utf-8", "replace").strip()
        try:
            return json_value(raw, field.lower(), path)
        except DecodeError:
            return None

    def _compared(self, value: Any) -> bool:
        if isinstance(value, list):  # one fulfilling value suffices
            return any(self._compared(item) for item in value) if self.comparison != "!=" else not self._equals(value)
        if self.comparison in _ORDERS:
            number, bound = _number(value), _number(self.value)
            return number is not None and bound is not None and _ORDERS[self.comparison](number, bound)
        if self.comparison == "~":
            return self.value.casefold() in str(value).casefold()
        return self._equals(value) == (self.comparison == "=")

    def _equals(self, value: Any) -> bool:
        if isinstance(value, list):
            return any(self._equals(item) for item in value)
        if type(value) in (int, float) and _number(self.value) is not None:
            return bool(value == _number(self.value))
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return text == self.value or (self.name in ("key", "shard") and fnmatch.fnmatchcase(text, self.value))


def class_number(manifest: Manifest, named: str) -> int:
    """Return the class id for a class name or number. Raises `ConfigError` if the set has no such class."""
    if named in manifest.classes:
        return manifest.classes.index(named)
    if named.isdecimal() and (not manifest.classes or int(named) < len(manifest.classes)):
        return int(named)
    shown = ", ".join(manifest.classes[:20]) + (" …" if len(manifest.classes) > 20 else "")
    raise ConfigError(f"{named!r} is not a class of this set; it has {shown or 'no class names'}")


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
