"""Fuzz target: tar blocks that our reader accepts must be read in the same way by the standard library."""

import contextlib
import io
import tarfile

from mps_shards.errors import ShardError
from mps_shards.shards.tar import BLOCK, Member, members
from tools.fuzz.examples import tars

__all__ = ["check", "seeds", "with_checksums"]


def seeds() -> list[bytes]:
    """Return whole tars."""
    return tars()


def check(data: bytes) -> None:
    """Check the bytes, and the bytes with corrected checksums, without which few changes would be accepted."""
    for content in (data, with_checksums(data)):
        with contextlib.suppress(ShardError):
            found = members(content, where="fuzz")
            assert all(0 <= start <= stop <= len(content) for _, start, stop in found)
            expected = by_tarfile(content)
            assert all(map(_alike, found, expected)) and len(found) >= len(expected), (found, expected)


def with_checksums(data: bytes) -> bytes:
    """Return the bytes with correct checksums in all blocks that look like headers."""
    content = bytearray(data)
    for start in range(0, len(content) - BLOCK + 1, BLOCK):
        if content[start + 257 : start + 262] == b"ustar":
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + BLOCK])
    return bytes(content)


def _alike(ours: Member, theirs: tuple[str, int, int]) -> bool:
    # the standard library reads the times that GNU tars store after a name as a prefix; some names end at a NUL
    name, start, stop = theirs
    name, shown = name.partition("\0")[0], ours.name.partition("\0")[0]
    return (start, stop) == (ours.start, ours.stop) and (name == shown or name.endswith("/" + shown))


def by_tarfile(content: bytes) -> list[tuple[str, int, int]]:
    """Return name, start and stop of each regular file that the standard library reads.

    It may stop early at a wrong number that we do not read. The list is empty for a tar that it refuses or reads
    differently, such as one with sparse files.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errors="surrogateescape") as tar:
            entries = tar.getmembers()
    except Exception:  # defects of the standard library are not ours
        return []
    if any(entry.issparse() for entry in entries):
        return []
    return [(entry.name, entry.offset_data, entry.offset_data + entry.size) for entry in entries if entry.isreg()]
