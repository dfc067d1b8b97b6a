"""Keys: the conversion of a file's path to the name of a tar member, and back.

WebDataset groups members by their name up to the first dot of the base name, and skips names that begin with
``__something__`` (webdataset/tariterators.py: ``base_plus_ext`` and ``skip_meta``). A dot in a stem, as in
``v1.2_a.jpg``, would cut the key short and mix samples. Such characters are therefore percent-encoded, and decoding a
key gives the original path.
"""

import re
from urllib.parse import unquote_to_bytes

from mps_shards.errors import DataError

__all__ = ["encode_key", "is_hidden", "key_to_path", "member_name", "split_member"]

# A dot ends a key, "%" is the escape character, a backslash separates folders on Windows, and control characters and
# lone surrogates (bytes that are not UTF-8) break listings.
_UNSAFE = re.compile(r"[%.\\\x00-\x1f\x7f\ud800-\udfff]")
_META = re.compile(r"__[^/]*__($|/)")
_MEMBER = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)


def encode_key(path: str) -> str:
    """Return the key of a source path without its extension: ``"a.b/v1.2"`` -> ``"a%2Eb/v1%2E2"``.

    Args:
        path: relative path with forward slashes; bytes that are not UTF-8 appear as Python's surrogate escapes.

    Returns:
        A key without dots, which WebDataset does not cut and `key_to_path` decodes.
    """
    key = _UNSAFE.sub(_percent, path)
    if _META.match(key):
        key = "%5F" + key[1:]  # webdataset silently skips names such as __meta__/x
    return key


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def key_to_path(key: str) -> str:
    """Return the path without extension that `encode_key` turned into this key."""
    return unquote_to_bytes(key).decode("utf-8", "surrogateescape")


def member_name(key: str, field: str) -> str:
    """Return the tar member name of one field of a sample: ``("cat/x", "jpg")`` -> ``"cat/x.jpg"``."""
    return f"{key}.{field}"


def is_hidden(name: str) -> bool:
    """Whether the base name of a member begins with a dot, such as macOS's ``._x.jpg`` and ``.DS_Store``.

    Operating systems add such files. By WebDataset's rule, all of them in a folder would share one key.
    """
    if name[:1] != "." and "/." not in name and "\\." not in name:
        return False
    base = name.replace("\\", "/").rpartition("/")[2]
    return base.startswith(".")


def split_member(name: str) -> tuple[str, str]:
    """Split a member name into key and field by WebDataset's rule: ``"cat/x.mask.PNG"`` -> ``("cat/x", "mask.png")``.

    Raises:
        DataError: the base name has no dot, or nothing before its first dot.
    """
    if "\\" in name:  # written on Windows; WebDataset would treat its folders as a part of the base name
        name = name.replace("\\", "/")
    match = _MEMBER.match(name)
    if not match:
        raise DataError(f"the member name {name!r} has no key or no field; WebDataset names have the form key.field")
    return match[1], match[2].lower()
