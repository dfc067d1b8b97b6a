"""Fuzz target: the byte range of one sample, as it is read from a shard."""

import contextlib

from mps_shards.errors import DecodeError, ShardError
from mps_shards.shards.tar import members, sample_from
from tools.fuzz.examples import tars
from tools.fuzz.of_tar import with_checksums

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return the bytes of a sample, and whole tars, which hold several samples."""
    shard = tars()[0]
    second = next(found for found in members(shard, where="seed") if found.name.endswith(".cls")).stop
    return [shard[: second + -second % 512], *tars()]


def check(data: bytes) -> None:
    """Check that the bytes give a sample with fields, or raise ShardError."""
    for content in (data, with_checksums(data)):
        with contextlib.suppress(ShardError):
            sample = sample_from(content, shard="fuzz")
            assert sample.key and sample.fields
            assert sum(map(len, sample.fields.values())) <= len(content)
            for look in (sample.image, sample.label):
                with contextlib.suppress(DecodeError):
                    look()
