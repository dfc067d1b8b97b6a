"""Keys that come twice, found with 8 bytes a sample."""

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

__all__ = ["Twin", "key_at", "twins", "twins_in"]


class Twin(NamedTuple):
    """A sample whose key an earlier shard holds, too. Shards by their number among those given."""

    shard: int
    sample: int
    key: str
    first: int


def twins(hashes: Sequence[Hashes], key_of: Callable[[int, int], str]) -> Iterator[Twin]:
    """Samples whose key came in an earlier shard. Equal hashes are no proof: those keys are compared themselves.

    Args:
        hashes: of the keys of each shard's samples.
        key_of: the key of a shard's sample, both by number; asked for few, shard after shard.
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
                yield Twin(shard, sample, key, first[key])


def twins_in(files: Sequence[File], hashes: Sequence[Hashes], rows: Sequence[Rows] | None = None) -> Iterator[Twin]:
    """`twins` of tars that may have no index.

    Args:
        rows: of each tar, if known; else a tar with suspects is read again.
    """
    rows_of = rows.__getitem__ if rows else lru_cache(maxsize=1)(lambda shard: scan_shard(files[shard]).rows)

    def key_of(shard: int, sample: int) -> str:
        offset, size, _ = rows_of(shard)[sample].item()
        return key_at(files[shard], offset, size)

    yield from twins(hashes, key_of)


def key_at(file: File, offset: int, size: int) -> str:
    """Key of the sample in a byte range, of which no more than the first header is read."""

    def read(start: int, stop: int) -> bytes:
        return bytes(file.read(offset + start, offset + stop))

    return split_member(next(walk(read, size, where=f"shard {file.name}")).name)[0]
