"""Maps that change label ids while packing, for example 255 to 1, or the raw ids of Cityscapes to its train ids."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, StorageError

__all__ = ["ID_MAPS", "LabelIdMap", "find_id_map"]

_PAIR = re.compile(r"\s*(\d{1,5})\s*(?:=|:|->|,|\s)\s*(\d{1,5})\s*")

# Raw ids of the train ids 0 to 18 (cityscapesScripts, helpers/labels.py); every other raw id is ignored.
_CITYSCAPES = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIdMap:
    """A map from stored label ids to the label ids in the shard set.

    Attributes:
        name: text that the manifest records, which is the name of a known map, or the pairs.
        pairs: pairs (stored id, new id).
        others: new id of every other stored id; None if other ids do not change.
        ignore_index: new id that is not a class, if the map produces one.
        shift: added to every id above 0 before the pairs apply.
    """

    name: str
    pairs: tuple[tuple[int, int], ...] = ()
    others: int | None = None
    ignore_index: int | None = None
    shift: int = 0

    def apply(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the changed ids of a label map, as uint8 if they fit."""
        table = np.arange(1 << 16 if ids.dtype.itemsize > 1 else 256)
        if self.shift:
            table[1:-1] += self.shift
        if self.others is not None:
            table[:] = self.others
        for stored, meant in self.pairs:
            if stored < len(table):
                table[stored] = meant
        changed: npt.NDArray[Any] = table[ids]
        return changed.astype(np.uint16 if changed.size and changed.max() > 255 else np.uint8)


ID_MAPS = {
    "binary": LabelIdMap(name="binary", pairs=((0, 0),), others=1),
    "zero-as-ignore": LabelIdMap(name="zero-as-ignore", pairs=((0, 255),), shift=-1, ignore_index=255),
    "cityscapes": LabelIdMap(
        name="cityscapes",
        pairs=tuple((raw, train) for train, raw in enumerate(_CITYSCAPES)),
        others=255,
        ignore_index=255,
    ),
}


def find_id_map(given: str) -> LabelIdMap:
    """Return a map by its name, from pairs such as ``255=1,7=0``, or from a file with one pair per line.

    Raises:
        ConfigError: the name or file does not exist, a pair is malformed, or an id is mapped twice.
        StorageError: the file cannot be read.
    """
    if given in ID_MAPS:
        return ID_MAPS[given]
    parts = given.split(",")
    if not all(_PAIR.fullmatch(part) for part in parts):
        path = Path(given)
        try:
            lines = path.read_text("utf-8-sig").splitlines()
        except FileNotFoundError as error:
            known = ", ".join(ID_MAPS)
            raise ConfigError(
                f"map_ids {given!r} is neither a file, nor a known map ({known}), nor pairs like 255=1,7=0"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {given}: {error}") from error
        parts = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    pairs: dict[int, int] = {}
    for part in parts:
        match = _PAIR.fullmatch(part)
        if not match:
            raise ConfigError(f"map_ids {given}: {part!r} is not a pair of label ids like 255=1")
        stored, meant = int(match[1]), int(match[2])
        if max(stored, meant) >= 1 << 16:
            raise ConfigError(f"map_ids {given}: {part!r} is out of range; label ids go from 0 to 65535")
        if pairs.setdefault(stored, meant) != meant:
            raise ConfigError(f"map_ids {given}: the label id {stored} has two meanings, {pairs[stored]} and {meant}")
    name = ",".join(f"{stored}={meant}" for stored, meant in sorted(pairs.items()))
    return LabelIdMap(name=name, pairs=tuple(sorted(pairs.items())))
