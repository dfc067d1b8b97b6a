"""Write one shard: original bytes into a deterministic tar, with its digest and its index rows on the way."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mps_shards.errors import DataError, StorageError
from mps_shards.pack.layouts.listing import Entry
from mps_shards.pack.plan import Keys, ShardPlan, key_and_field
from mps_shards.shards.index import Rows, rows
from mps_shards.shards.manifest import ShardRecord
from mps_shards.shards.naming import member_name
from mps_shards.shards.tar import END, header, padding
from mps_shards.storage.local import replacing

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
    digest = hashlib.sha256()
    entries: list[tuple[int, int, int]] = []
    offset = 0
    with replacing(out / plan.name) as tar:
        for entry in plan.entries:
            pieces = sample_pieces(source, entry, plan.keys)
            crc = size = 0
            for piece in pieces:
                crc = zlib.crc32(piece, crc)
                size += len(piece)
                digest.update(piece)
            if size >= 1 << 32:
                raise DataError(f"{source / entry.path} is {entry.size} bytes; a sample must stay below 4 GiB")
            tar.writelines(pieces)
            entries.append((offset, size, crc))
            offset += size
            on_sample(size)
        digest.update(END)
        tar.write(END)
    record = ShardRecord(name=plan.name, samples=len(entries), bytes=offset + len(END), sha256=digest.hexdigest())
    return WrittenShard(record, rows(entries))


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
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(content) != size:
        raise DataError(f"{path} had {size} bytes when it was listed and has {len(content)} now; pack again")
    if not content.startswith(_SIGNATURES) and not content.startswith(_PNM):
        raise DataError(f"{path} is no image: it begins with {content[:8]!r}; remove it or replace it")
    return content
