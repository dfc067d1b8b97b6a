"""Fuzz target: an untrusted manifest beside real shards."""

import contextlib
import shutil
from functools import cache
from pathlib import Path

import msgspec

from mps_shards import ShardDataset
from mps_shards.errors import ManifestError, ShardsError
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, manifest_bytes, parse_manifest
from tools.fuzz.examples import folder, packed_set

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return the manifest of a set."""
    return [(packed_set() / MANIFEST_NAME).read_bytes()]


def check(data: bytes) -> None:
    """Check a manifest as it is, and with a matching fingerprint, with which the set is opened and read."""
    with contextlib.suppress(ManifestError):
        parse_manifest(data, where="fuzz")
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        sealed = manifest_bytes(msgspec.json.decode(data, type=Manifest))
        (_beside() / MANIFEST_NAME).write_bytes(sealed)
        with contextlib.suppress(ShardsError):
            dataset = ShardDataset(_beside(), batch_size=2, shuffle=True)
            try:
                assert manifest_bytes(parse_manifest(sealed, where="fuzz")) == sealed
                batches = sum(1 for _ in zip(dataset, range(8), strict=False))
                assert batches == min(len(dataset), 8)
            finally:
                dataset.close()


@cache
def _beside() -> Path:
    return Path(shutil.copytree(packed_set(), folder() / "beside"))
