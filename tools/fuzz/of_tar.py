"""The walk over a run of tar blocks: what it accepts, the standard library reads alike."""

import contextlib
import io
import tarfile

from mps_shards.errors import ShardError
from mps_shards.shards.tar import BLOCK, Member, members
from tools.fuzz.examples import tars

__all__ = ["check", "seeds", "with_checksums"]


def seeds() -> list[bytes]:
    """Whole tars."""
    return tars()


def check(data: bytes) -> None:
    """As it is, and with every header's checksum put right: or else few changes would get past that."""
    for content in (data, with_checksums(data)):
        with contextlib.suppress(ShardError):
            found = members(content, where="fuzz")
            assert all(0 <= start <= stop <= len(content) for _, start, stop in found)
            expected = by_tarfile(content)
            assert all(map(_alike, found, expected)) and len(found) >= len(expected), (found, expected)


def with_checksums(data: bytes) -> bytes:
    """The tar with right checksums in all blocks that look like headers."""
    content = bytearray(data)
    for start in range(0, len(content) - BLOCK + 1, BLOCK):
        if content[start + 257 : start + 262] == b"ustar":
            content[start + 148 : start + 156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + BLOCK])
    return bytes(content)


def _alike(ours: Member, theirs: tuple[str, int, int]) -> bool:
    # the standard library takes what GNU tars keep behind a name, times, for a prefix of it; some names end at a NUL
    name, start, stop = theirs
    name, shown = name.partition("\0")[0], ours.name.partition("\0")[0]
    return (start, stop) == (ours.start, ours.stop) and (name == shown or name.endswith("/" + shown))


def by_tarfile(content: bytes) -> list[tuple[str, int, int]]:
    """Name, start and stop of each regular file, up to where it finds a number wrong that we do not read, and stops.

    None of them where it has another idea of such a tar.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:", errors="surrogateescape") as tar:
            entries = tar.getmembers()
    except Exception:  # its defects are its own
        return []
    if any(entry.issparse() for entry in entries):
        return []
    return [(entry.name, entry.offset_data, entry.offset_data + entry.size) for entry in entries if entry.isreg()]
