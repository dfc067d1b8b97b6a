"""Search for repeated keys with 8 bytes of memory per sample."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from mps_shards.shards.key_names import split_member
from mps_shards.shards.sample_index import Rows
from mps_shards.shards.tar import walk
from mps_shards.shardset.scan import Hashes, scan_shard
from mps_shards.storage.folder import File

__all__ = ["RepeatedKey", "key_at", "repeated_keys", "repeated_keys_in"]


class RepeatedKey(NamedTuple):
    """A sample whose key also occurs in an earlier shard. Shards are given by number."""

    shard: int
    sample: int
    key: str
    first: int


def repeated_keys(hashes: Sequence[Hashes], key_of: Callable[[int, int], str]) -> Iterator[RepeatedKey]:
    """Iterate over samples whose key occurs in an earlier shard. Keys with equal hashes are compared themselves.

    Args:
        hashes: hashes of the keys of each shard's samples.
        key_of: returns the key of a sample, given the numbers of shard and sample; called for few, in shard order.
    """
    merged = np.concatenate([np.empty(0, np.uint64), *hashes])
    order = np.argsort(merged, kind="stable")
    same = merged[order[1:]] == merged[order[:-1]]
    suspects = np.unique(np.concatenate([order[1:][same], order[:-1][same]]))
    first: dict[str, int] = {}
    starts = accumulate((len(part) for part in hashes), initial=0)
    for shard, (part, start) in enumerate(zip(hashes, starts, strict=False)):
        here = suspects[(suspects >= start) & (suspects < start + len(part))] - start
        for sample in here.tolist():
            key = key_of(shard, sample)
            if first.setdefault(key, shard) != shard:
                yield RepeatedKey(shard, sample, key, first[key])


def repeated_keys_in(
    files: Sequence[File], hashes: Sequence[Hashes], rows: Sequence[Rows] | None = None
) -> Iterator[RepeatedKey]:
    """Find repeated keys in tars that may have no index.

    Args:
        rows: index rows of each tar, or None where unknown; such a tar is read again if it may repeat keys.
    """
    rows_of = rows.__getitem__ if rows else lru_cache(maxsize=1)(lambda shard: scan_shard(files[shard]).rows)

    def key_of(shard: int, sample: int) -> str:
        offset, size, _ = rows_of(shard)[sample].item()
        return key_at(files[shard], offset, size)

    yield from repeated_keys(hashes, key_of)


def key_at(file: File, offset: int, size: int) -> str:
    """Return the key of the sample in a byte range; only the first header is read."""

    def read(start: int, stop: int) -> bytes:
        return bytes(file.read(offset + start, offset + stop))

    return split_member(next(walk(read, size, where=f"shard {file.name}")).name)[0]
