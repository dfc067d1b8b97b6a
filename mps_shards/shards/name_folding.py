"""Names that collide on some disks, because they differ only in case or in Unicode normal form.

Disks of macOS and Windows usually treat such names as equal, and Linux can mount such disks. Since sets are copied
between machines, packing and indexing refuse such names of splits and shards on every disk. Keys that a set already
holds are refused only when files are written from them to a disk that treats two of the keys as equal.
"""

import unicodedata
from collections.abc import Iterable

__all__ = ["find_colliding_names", "fold_name"]


def fold_name(name: str) -> str:
    """Return Unicode's canonical caseless form of a name, composed. Names collide if their folded names are equal."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def find_colliding_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different names that some disk treats as equal, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(fold_name(name), name)
        if other != name:
            return other, name
    return None
