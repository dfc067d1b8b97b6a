"""Write one shard: original bytes into a deterministic tar, with its digest and its index rows on the way."""

import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mps_shards.errors import DataError, StorageError
from mps_shards.pack.layouts.listing import Entry
from mps_shards.pack.plan import Keys, ShardPlan, key_and_field
from mps_shards.shards.index import Rows, rows
from mps_shards.shards.manifest import ShardRecord
from mps_shards.shards.naming import member_name
from mps_shards.shards.tar import END, header, padding
from mps_shards.storage.local import begin_writing, replacing

__all__ = ["WrittenShard", "write_shard"]

# What image files begin with. Pillow goes by content too, so a PNG named .jpg is packed as it is, and read rightly.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM = tuple(b"P%d" % kind + space for kind in range(1, 8) for space in (b"\n", b" ", b"\r", b"\t"))


class WrittenShard(NamedTuple):
    """What the manifest and the index need to know of a shard."""

    record: ShardRecord
    rows: Rows


def write_shard(source: Path, plan: ShardPlan, out: Path, *, on_sample: Callable[[int], None]) -> WrittenShard:
    """Write `plan` to ``out/plan.name``, which appears only when it is whole.

    Args:
        on_sample: told the bytes of each sample once it is written.

    Raises:
        DataError: a file changed since it was listed, or is no image.
        StorageError: a file cannot be read, or the shard not written.
    """
    sizes: list[int] = []
    with replacing(out / plan.name) as file, _Digested(file) as tar:
        for entry in plan.entries:
            sample = b"".join(sample_pieces(source, entry, plan.keys))
            if len(sample) >= 1 << 32:
                raise DataError(f"{source / entry.path} is {entry.size} bytes; a sample must stay below 4 GiB")
            tar.write(sample)
            sizes.append(len(sample))
            on_sample(len(sample))
        tar.write(END)
        sha256, checksums = tar.digests()
    offsets = [0, *accumulate(sizes)]
    record = ShardRecord(name=plan.name, samples=len(sizes), bytes=offsets[-1] + len(END), sha256=sha256)
    return WrittenShard(record, rows(list(zip(offsets, sizes, checksums, strict=False))))  # END is no sample


class _Digested:
    """Writes to a file, 4 MB at a time, and digests them meanwhile on a thread of its own; holds 8 MB at most."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha256 = hashlib.sha256()
        self._checksums: list[int] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mps-shards-digest")
        self._digesting: Future[None] | None = None
        self._held: list[bytes] = []
        self._size = self._written = 0

    def __enter__(self) -> "_Digested":
        return self

    def write(self, content: bytes) -> None:
        self._held.append(content)
        self._size += len(content)
        if self._size >= 4 << 20:
            self._flush()

    def digests(self) -> tuple[str, list[int]]:
        """SHA-256 of all that was written, and the CRC-32 of each `write`."""
        self._flush()
        self._wait()
        return self._sha256.hexdigest(), self._checksums

    def _flush(self) -> None:
        self._wait()
        self._digesting = self._thread.submit(self._digest, self._held)
        self._file.writelines(self._held)
        begin_writing(self._file, self._written, self._size)
        self._written += self._size
        self._held, self._size = [], 0

    def _digest(self, contents: list[bytes]) -> None:
        for content in contents:
            self._sha256.update(content)
            self._checksums.append(zlib.crc32(content))

    def _wait(self) -> None:
        if self._digesting is not None:
            self._digesting.result()

    def __exit__(self, *failure: object) -> None:
        self._thread.shutdown()


def sample_pieces(source: Path, entry: Entry, keys: Keys) -> list[bytes]:
    """The tar blocks of one sample, its fields in alphabetical order."""
    key, field = key_and_field(entry.path, keys)
    fields = [(field, _image_bytes(source / entry.path, entry.size))]
    if entry.label >= 0:
        fields.append(("cls", str(entry.label).encode("ascii")))
    pieces = []
    for name, content in sorted(fields, key=lambda field: field[0].lower()):
        pieces += [header(member_name(key, name), len(content)), content, padding(len(content))]
    return pieces


def _image_bytes(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(content) != size:
        raise DataError(f"{path} had {size} bytes when it was listed and has {len(content)} now; pack again")
    if not content.startswith(_SIGNATURES) and not content.startswith(_PNM):
        raise DataError(f"{path} is no image: it begins with {content[:8]!r}; remove it or replace it")
    return content
