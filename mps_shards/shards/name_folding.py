"""Names that some disks take for one: those that differ only in case or in Unicode normal form.

Disks of macOS and Windows usually do not tell such names apart, and Linux can mount disks that do not. As sets travel,
packing and indexing refuse such names of splits and shards everywhere. The keys that a set holds already are refused
where files are written from them, if that disk really takes two names for one.
"""

import unicodedata
from collections.abc import Iterable

__all__ = ["alike", "folded"]


def folded(name: str) -> str:
    """Return what names that some disk takes for one have in common: Unicode's canonical caseless form, composed."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different names that some disk takes for one, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            return other, name
    return None
