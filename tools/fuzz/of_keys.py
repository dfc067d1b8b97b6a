"""Fuzz target: paths are restored from their keys, also through tar headers, and webdataset splits names as we do."""

import contextlib
from unittest import mock

from webdataset.tariterators import base_plus_ext

from mps_shards.errors import DataError
from mps_shards.shards.key_names import encode_key, key_to_path, member_name, split_member
from mps_shards.shards.tar import header, members

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return unusual paths."""
    texts = ["cat/x", "v1.2/a.b", "__meta__/x", "100%2E", "a\\b", "ä/ß.ü" * 20, "x" * 99, "d/" * 60 + "x", ".h", "a\nb"]
    return [text.encode() for text in texts] + [b"no \xff utf-8"]


def check(data: bytes) -> None:
    """Check a text as the name of a tar member, and as a path if files can have this path."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(DataError):
        found = split_member(text)
        assert base_plus_ext(text) in ((found[0], mock.ANY), (None, None))  # webdataset ignores names with newlines
    if "\0" in text or not all(part not in ("", ".", "..") for part in text.split("/")):
        return
    key = encode_key(text)
    assert key_to_path(key) == text
    name = member_name(key, "jpg")
    assert split_member(name) == base_plus_ext(name) == (key, "jpg")
    assert [found.name for found in members(header(name, 0), where="fuzz")] == [name]
