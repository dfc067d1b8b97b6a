"""The key rule: how a file's path becomes a member name of a tar, and back.

WebDataset groups members by their name up to the first dot of the base name, and passes over names that begin with
``__something__`` (webdataset/tariterators.py: ``base_plus_ext`` and ``skip_meta``). A dot in a stem, as in
``v1.2_a.jpg``, would thus cut the key short and mix samples. So keys are percent-encoded where needed, and decoding
gives back the very path.
"""

import re
from urllib.parse import unquote_to_bytes

from mps_shards.errors import DataError

__all__ = ["encode_key", "key_to_path", "member_name", "split_member"]

# A dot ends a key, percent is our escape, a backslash separates elsewhere, control characters break listings.
_UNSAFE = re.compile(r"[%.\\\x00-\x1f\x7f\ud800-\udfff]")
_META = re.compile(r"__[^/]*__($|/)")
_MEMBER = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)


def encode_key(path: str) -> str:
    """Key of a source path that has no extension any more: ``"a.b/v1.2"`` -> ``"a%2Eb/v1%2E2"``.

    Args:
        path: relative, forward slashes; bytes that are no UTF-8 as Python's surrogate escapes.

    Returns:
        A key without dots, which WebDataset reads whole and `key_to_path` decodes.
    """
    key = _UNSAFE.sub(_percent, path)
    if _META.match(key):
        key = "%5F" + key[1:]  # webdataset passes over names like __meta__/x in silence
    return key


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def key_to_path(key: str) -> str:
    """The source path, without its extension, that `encode_key` made this key from."""
    return unquote_to_bytes(key).decode("utf-8", "surrogateescape")


def member_name(key: str, field: str) -> str:
    """Name inside the tar of one field of a sample: ``("cat/x", "jpg")`` -> ``"cat/x.jpg"``."""
    return f"{key}.{field}"


def split_member(name: str) -> tuple[str, str]:
    """Key and field of a member name, by WebDataset's rule: ``"cat/x.mask.PNG"`` -> ``("cat/x", "mask.png")``.

    Raises:
        DataError: the name has no dot in its base name, or nothing before it.
    """
    match = _MEMBER.match(name)
    if not match:
        raise DataError(f"member {name!r} has no key and field; WebDataset names are key.field")
    return match[1], match[2].lower()
