"""Tar members as bytes: the headers that packing writes, and the walk over a sample's byte range.

Headers are USTAR where that suffices and pax where a name needs it (over 100 characters that cannot be split, or not
ASCII), as `tarfile` decides; every other field is fixed, so equal input gives equal bytes.
"""

import tarfile
from typing import NamedTuple

from mps_shards.errors import ShardError
from mps_shards.shards.sample import Buffer

__all__ = ["BLOCK", "END", "Member", "data_size", "header", "members", "padding"]

BLOCK = 512
END = bytes(2 * BLOCK)  # POSIX.1: an archive ends with two zero blocks

_ZERO_BLOCK = bytes(BLOCK)
_REGULAR = (ord("0"), 0, ord("7"))  # "7" asks for contiguous space, which POSIX lets us ignore
_MAX_PAX = 1 << 20  # no real pax header comes near; a larger one is damage or an attack


class Member(NamedTuple):
    """One regular file of a tar: its name, and where its data lie in the buffer that was walked."""

    name: str
    start: int
    stop: int


def header(name: str, size: int) -> bytes:
    """Header block(s) of a regular file: mode 0644, owner 0, time 0."""
    if len(name) > 100 or not name.isascii() or size >= 8**11:
        return _any_header(name, size)
    # what tarfile gives, at a tenth of its time: two of these a sample
    letters, digits = name.encode("ascii"), b"%011o" % size
    checksum = b"%06o" % (_PLAIN_SUM + sum(letters) + sum(digits))
    return letters.ljust(100, b"\0") + _PLAIN[100:124] + digits + _PLAIN[135:148] + checksum + _PLAIN[154:]


def _any_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


_PLAIN = _any_header("", 0)
_PLAIN_SUM = int(_PLAIN[148:154], 8) - sum(b"0" * 11)  # without the size


def padding(size: int) -> bytes:
    """Zeros that fill the last block of `size` bytes of data."""
    return bytes(-size % BLOCK)


def members(buffer: Buffer, *, where: str) -> list[Member]:
    """Regular files in a whole run of tar blocks, such as one sample's byte range, in order.

    Understands USTAR, pax (``path``, ``size``) and GNU long names. Directories, links and devices are passed over.
    Zero blocks end the walk.

    Args:
        buffer: starts at a header block.
        where: what is being read, for messages.

    Raises:
        ShardError: a header's checksum is wrong, or the bytes end inside a member.
    """
    found: list[Member] = []
    position = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    total = len(buffer)
    while position + BLOCK <= total:
        block = bytes(buffer[position : position + BLOCK])
        if block == _ZERO_BLOCK:
            break
        size = data_size(block, where=where, position=position)
        kind = block[156]
        start = position + BLOCK
        if pax and kind in _REGULAR:
            size = int(pax.get("size", size))
        stop = start + size
        if stop > total:
            raise ShardError(f"{where}: member at byte {position} needs {size} bytes, only {total - start} are there")
        if kind in _REGULAR:
            found.append(Member(long_name or pax.get("path") or _name(block), start, stop))
        if kind == ord("x"):
            pax = _pax_records(bytes(buffer[start:stop]), where)
        elif kind == ord("L"):
            long_name = bytes(buffer[start:stop]).rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind not in b"gK":
            long_name, pax = None, {}
        position = stop + -size % BLOCK
    return found


def data_size(block: bytes, *, where: str, position: int) -> int:
    """Bytes of data behind a header block, whose checksum is verified. Links and folders have none.

    Raises:
        ShardError: this is no header, or a damaged one.
    """
    try:
        # POSIX.1: the sum of all bytes, the checksum's own eight taken as spaces
        field = block[148:156]
        stated = int(field.strip(b" \0"), 8) - 256 + sum(field)
        # most bytes are zero: without them the sum takes a fifth of the time. Some old writers took bytes as signed
        if stated != sum(block.translate(None, b"\0")) and stated != _signed_sum(block, field):
            raise ShardError(f"{where}: header at byte {position} has a wrong checksum")
        if block[156] in b"123456":
            return 0
        if block[124] & 0x80:  # GNU base-256, for sizes over 8 GiB
            return int.from_bytes(block[125:136], "big")
        size = int(block[124:136].strip(b" \0") or b"0", 8)
        if size < 0:
            raise ValueError(size)
    except ValueError as error:
        raise ShardError(f"{where}: no tar header at byte {position}") from error
    if block[156] in b"xL" and size > _MAX_PAX:
        raise ShardError(f"{where}: header at byte {position} claims a name of {size} bytes")
    return size


def _signed_sum(block: bytes, field: bytes) -> int:
    return sum(memoryview(block).cast("b")) - sum(memoryview(field).cast("b")) + sum(field)


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":  # only USTAR has a prefix; GNU keeps times there
        prefix = block[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _pax_records(content: bytes, where: str) -> dict[str, str]:
    records: dict[str, str] = {}
    while content.strip(b"\0"):
        length, _, _ = content.partition(b" ")
        if not length.isdigit() or len(length) > 7 or not len(length) + 3 < int(length) <= len(content):
            raise ShardError(f"{where}: malformed pax header")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    size = records.get("size", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise ShardError(f"{where}: pax header with size {size[:20]!r}")
    return records
