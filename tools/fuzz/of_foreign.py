"""Fuzz target: untrusted tars, compressed or not, streamed through webdataset."""

import bz2
import contextlib
import gzip
import lzma
import re

from webdataset.tariterators import base_plus_ext

from mps_shards.errors import ShardError
from mps_shards.reading.foreign_shards import ForeignShards
from mps_shards.shards.raw_sample import RawSample
from mps_shards.shards.tar import members
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location
from tools.fuzz.examples import folder, tars
from tools.fuzz.of_tar import with_checksums

__all__ = ["check", "seeds"]

# changes to the other bytes of an input, chosen by its first byte
_WRAPPERS = (
    bytes,  # unchanged; the bytes may be a compressed tar
    with_checksums,
    lambda data: gzip.compress(with_checksums(data), 1),
    lambda data: bz2.compress(with_checksums(data), 1),
    lambda data: lzma.compress(with_checksums(data), preset=0),
)


def seeds() -> list[bytes]:
    """Return tars that the check compresses, and compressed tars."""
    compressed = [compress(tars()[1]) for compress in (gzip.compress, bz2.compress, lzma.compress)]
    wrapped = [bytes([number]) + tar for number in range(1, len(_WRAPPERS)) for tar in tars()]
    return [b"\0" + content for content in (*tars(), *compressed)] + wrapped


def check(data: bytes) -> None:
    """Check that reading raises ShardError, or gives the fields of all files that webdataset's key rule accepts."""
    if not data:
        return
    content = _WRAPPERS[data[0] % len(_WRAPPERS)](data[1:])
    path = folder() / "foreign.tar"
    path.write_bytes(content)
    shards = ForeignShards([Location(LocalFolder(path.parent), (path.name,))], buffer=0)
    with contextlib.suppress(ShardError):
        samples = []
        for sample in shards.sequence(seed=0, epoch=0):
            if not isinstance(sample, RawSample):
                return  # a key occurs again, which the reader reports
            samples.append(sample)
        found = [bytes(value) for sample in samples for value in sample.fields.values()]
        plain = _opened(content)
        held = [plain[start:stop] for name, start, stop in members(plain, where="fuzz") if _is_field(name)]
        assert found == held


def _opened(content: bytes) -> bytes:
    for magic, decompress in (
        (rb"\x1f\x8b\x08", gzip.decompress),
        (rb"(?s)BZh.1AY&SY", bz2.decompress),
        (rb"\xfd7zXZ\0", lzma.decompress),
    ):
        if re.match(magic, content):
            return decompress(content)
    return content


def _is_field(name: str) -> bool:
    key, field = base_plus_ext(name)
    return key is not None and not field.startswith("__") and not re.match(r"__[^/]*__($|/)", name)
