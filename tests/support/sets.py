"""Tiny shard sets of any shape, made in milliseconds with the functions of packing, and shared by all tests."""

import atexit
import functools
import hashlib
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg

from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, Packed, ShardRecord, manifest_bytes
from mps_shards.shards.sample_index import INDEX_NAME, index_bytes, rows
from mps_shards.shards.tar import END, header, padding

CLASSES = ("cat", "dog", "fox")
BROKEN_JPEG = b"\xff\xd8\xff\xe0 no more of it"


def shard_set(counts: Sequence[int], *, broken: Sequence[int] = (), name: str = "s") -> Path:
    """Return a set with these numbers of samples per shard. It must only be read: equal arguments give the same folder.

    Sample n has the key ``f"{name}{n:05d}"``, the label n % 3, and noise of its own as its image (12 x 10 pixels).

    Args:
        broken: numbers of samples whose image cannot be decoded.
    """
    return _shard_set(tuple(counts), tuple(broken), name)


def foreign_tars(counts: Sequence[int]) -> Path:
    """Return a folder with the tars of `shard_set`, but without index and manifest."""
    return _foreign_tars(tuple(counts))


def keys(numbers: Sequence[int], *, name: str = "s") -> list[str]:
    """Return the keys of the samples with these numbers."""
    return [f"{name}{number:05d}" for number in numbers]


@functools.cache
def _shard_set(counts: tuple[int, ...], broken: tuple[int, ...], name: str) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_root()))
    records, index, first = [], [], 0
    for number, count in enumerate(counts):
        pieces, entries, offset = [], [], 0
        for sample in range(first, first + count):
            content = sample_bytes(f"{name}{sample:05d}", sample, broken=sample in broken)
            pieces.append(content)
            entries.append((offset, len(content), zlib.crc32(content)))
            offset += len(content)
        tar = b"".join([*pieces, END])
        (folder / f"s-{number:06d}.tar").write_bytes(tar)
        digest = hashlib.sha256(tar).hexdigest()
        records.append(ShardRecord(name=f"s-{number:06d}.tar", samples=count, bytes=len(tar), sha256=digest))
        index.append(rows(entries))
        first += count
    content = index_bytes(index)
    (folder / INDEX_NAME).write_bytes(content)
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(manifest_of(records, index=content)))
    return folder


@functools.cache
def _foreign_tars(counts: tuple[int, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_root()))
    for tar in shard_set(counts).glob("*.tar"):
        shutil.copy(tar, folder)
    return folder


def sample_bytes(key: str, number: int, *, broken: bool = False) -> bytes:
    """Return the tar blocks of one sample."""
    image = BROKEN_JPEG if broken else _image(number)
    fields = [("cls", str(number % len(CLASSES)).encode()), ("jpg", image)]
    return b"".join(header(f"{key}.{field}", len(data)) + data + padding(len(data)) for field, data in fields)


def manifest_of(records: Sequence[ShardRecord], *, index: bytes) -> Manifest:
    """Return a manifest for these shards."""
    return Manifest(
        task="classification",
        classes=CLASSES,
        samples=sum(record.samples for record in records),
        bytes=sum(record.bytes for record in records),
        shards=tuple(records),
        index_sha256=hashlib.sha256(index).hexdigest(),
        packed=Packed(version="0", layout="tests", seed=None),
    )


@functools.cache
def _image(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, 90, "RGB", "444"))


@functools.cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="mps-shards-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
