"""Fuzz target: an untrusted index beside real shards and their manifest."""

import contextlib
import shutil
from functools import cache
from pathlib import Path

from mps_shards.errors import ShardsError
from mps_shards.shards.sample_index import INDEX_NAME
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location
from tools.fuzz.examples import folder, packed_set

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return the index of a set, and an empty index of another version."""
    content = (packed_set() / INDEX_NAME).read_bytes()
    return [content, content[:6] + b"\2\0\x76\0\0\0" + content[10:]]


def check(data: bytes) -> None:
    """Check that every sample is read or raises one of our errors."""
    (_beside() / INDEX_NAME).write_bytes(data)
    with contextlib.suppress(ShardsError):
        shards = ShardSet(Location(LocalFolder(_beside())))
        try:
            for number in range(len(shards)):
                with contextlib.suppress(ShardsError):
                    assert shards.read(number).key
        finally:
            shards.close()


@cache
def _beside() -> Path:
    return Path(shutil.copytree(packed_set(), folder() / "indexed"))
