"""Copies of tiny shard sets, and functions that damage them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mps_shards.shards.manifest import Manifest, parse_manifest
from mps_shards.shards.sample_index import INDEX_NAME
from tests.support.sets import shard_set


def copied(counts: Sequence[int], out: Path, *, broken: Sequence[int] = (), name: str = "s") -> Path:
    """Return a copy of a set that `shard_set` makes, which a test may change."""
    return Path(shutil.copytree(shard_set(counts, broken=broken, name=name), out))


def flip(path: Path, byte: int, bits: int = 1) -> None:
    """Change bits of one byte."""
    content = bytearray(path.read_bytes())
    content[byte] ^= bits
    path.write_bytes(content)


def cut(path: Path, size: int) -> None:
    """Keep only the first bytes."""
    path.write_bytes(path.read_bytes()[:size])


def swap(one: Path, other: Path) -> None:
    """Exchange the names of two files."""
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def manifest_of(folder: Path) -> Manifest:
    """Return the parsed manifest of a set."""
    return parse_manifest((folder / "manifest.json").read_bytes(), where="manifest.json")


def row_of(folder: Path, number: int) -> tuple[int, int, int]:
    """Return offset, size and CRC-32 of a sample."""
    offset, size, crc32 = np.load(folder / INDEX_NAME)[number].item()
    return offset, size, crc32
