"""Writing and parsing of tar headers, and parsing of a sample's byte range.

A header that is written is USTAR where possible, and pax where a name needs it (more than 100 characters that cannot be
split, or not ASCII), as in `tarfile`. Every other field is fixed, so that equal input gives equal bytes.
"""

import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mps_shards.errors import DataError, ShardError
from mps_shards.shards.key_names import is_hidden, split_member
from mps_shards.shards.raw_sample import Buffer, RawSample

__all__ = [
    "BLOCK",
    "END",
    "MAX_NAMING",
    "NO_DATA",
    "REGULAR",
    "Entry",
    "Member",
    "data_size",
    "header",
    "members",
    "padding",
    "pax_records",
    "sample_from",
    "walk",
]

BLOCK = 512
END = bytes(2 * BLOCK)  # POSIX.1: an archive ends with two zero blocks

_ZERO_BLOCK = bytes(BLOCK)
NO_DATA = b"123456xXgLK"  # kinds of links, devices and folders, and of headers that describe the next header
REGULAR = (ord("0"), 0, ord("7"))  # kinds of files; "7" requests contiguous space, which POSIX lets readers ignore
# Limit for the bytes of a pax header or a long name. Real ones are far smaller; larger ones are damage or an attack.
MAX_NAMING = 1 << 20


class Member(NamedTuple):
    """A regular file in a tar: its name, and the byte range of its data in the buffer."""

    name: str
    start: int
    stop: int


class Entry(NamedTuple):
    """An entry of a tar: a file, folder, link or device.

    Attributes:
        kind: type flag of the header; one of `REGULAR` for files.
        name: name of the entry, with its folders.
        begin: offset of the first header block of the entry.
        start, stop: byte range of the entry's data.
    """

    kind: int
    name: str
    begin: int
    start: int
    stop: int


def header(name: str, size: int) -> bytes:
    """Return the header blocks of a regular file with mode 0644, owner 0 and time 0."""
    if len(name) > 100 or not name.isascii() or size >= 8**11:
        return _any_header(name, size)
    return _plain_header(name.encode("ascii"), b"%011o" % size)


def _any_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


_PLAIN = _any_header("", 0)
_PLAIN_SUM = int(_PLAIN[148:154], 8) - sum(b"0" * 11)  # the checksum without the digits of the size
_BETWEEN, _BEFORE_SUM, _BEHIND = _PLAIN[100:124], _PLAIN[135:148], _PLAIN[154:]


def _plain_header(name: bytes, size: bytes) -> bytes:
    """Return the header that tarfile would make, in a tenth of the time. `size` has eleven octal digits."""
    checksum = b"%06o" % (_PLAIN_SUM + sum(name) + sum(size))
    return b"".join((name.ljust(100, b"\0"), _BETWEEN, size, _BEFORE_SUM, checksum, _BEHIND))


def padding(size: int) -> bytes:
    """Return the zero bytes that fill the last block of `size` bytes of data."""
    return bytes(-size % BLOCK)


def members(buffer: Buffer, *, where: str) -> list[Member]:
    """Return the regular files in consecutive tar blocks, such as the byte range of a sample, in order.

    Folders, links, devices and hidden files are skipped. A zero block ends the list.

    Args:
        buffer: tar blocks, the first of which is a header.
        where: name of the tar, for messages.

    Raises:
        ShardError: a header's checksum is wrong, or the bytes end inside a member.
    """
    plain = _plain_members(buffer)
    if plain is not None:
        return plain
    found = walk(lambda start, stop: bytes(buffer[start:stop]), len(buffer), where=where)
    return [
        Member(name, start, stop) for kind, name, _, start, stop in found if kind in REGULAR and not is_hidden(name)
    ]


def _plain_members(buffer: Buffer) -> list[Member] | None:
    """Return the result of `members` in half the time if `header` made every header in one block; otherwise None."""
    found = []
    position, total = 0, len(buffer)
    while position < total:
        block = bytes(buffer[position : position + BLOCK])
        name, digits = block[:100].partition(b"\0")[0], block[124:135]
        if not (digits.isdigit() and name.isascii()) or block != _plain_header(name, digits):
            return None
        start = position + BLOCK
        try:
            stop = start + int(digits, 8)
        except ValueError:
            return None
        if stop > total:
            return None
        if not is_hidden(text := name.decode("ascii")):
            found.append(Member(text, start, stop))
        position = stop + -stop % BLOCK
    return found


def walk(read: Callable[[int, int], bytes], total: int, *, where: str) -> Iterator[Entry]:
    """Yield the entries of consecutive tar blocks up to a zero block, without reading the data of files.

    Understands USTAR, pax (``path``, ``size``) and GNU long names.

    Args:
        read: function that returns the bytes from start to stop; called with ascending ranges, never beyond `total`.
        total: number of bytes of all blocks.
        where: name of the tar, for messages.

    Raises:
        ShardError: a header's checksum is wrong, or the bytes end inside an entry.
    """
    position = begin = 0
    long_name: str | None = None
    pax: dict[str, str] = {}
    while position + BLOCK <= total:
        block = read(position, position + BLOCK)
        if block == _ZERO_BLOCK:
            break
        size = data_size(block, where=where, position=position)
        kind = block[156]
        start = position + BLOCK
        if pax and kind not in NO_DATA:
            size = int(pax.get("size", size))
        stop = start + size
        if stop > total:
            raise ShardError(
                f"{where}: the member at byte {position} needs {size} bytes, but only {total - start} follow"
            )
        position = stop + -size % BLOCK
        if kind in b"xXL" and (pax or long_name is not None):  # readers disagree on which of the two names counts
            raise ShardError(f"{where}: two headers before byte {start} name the same member")
        if kind in b"xXg":
            records = pax_records(read(start, stop), where=where, for_all=kind == ord("g"))
            pax = pax if kind == ord("g") else records
        elif kind == ord("L"):
            # a long name ends at the first NUL, which may be in the padding, as in tarfile
            long_name = read(start, min(position, total)).partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif kind != ord("K"):
            if "" in (long_name, pax.get("path")):  # readers disagree on what an empty name means
                raise ShardError(f"{where}: the header before byte {start - BLOCK} states an empty name")
            name = long_name or pax.get("path") or _name(block)
            if kind == 0 and block[:100].partition(b"\0")[0].endswith(b"/"):
                # before POSIX.1, a folder was an empty file whose name ends with a slash
                if size or not name.endswith("/"):  # readers disagree on such entries
                    raise ShardError(f"{where}: the header at byte {start - BLOCK} may mean a folder or a file")
                kind = ord("5")
            yield Entry(kind, name, begin, start, stop)
            long_name, pax, begin = None, {}, position


def sample_from(content: Buffer, *, shard: str) -> RawSample:
    """Return the sample in consecutive tar blocks; its fields are views into `content`.

    Raises:
        ShardError: the blocks hold no sample, more than one sample, or a field twice.
    """
    view = memoryview(content)
    fields: dict[str, Buffer] = {}
    key = None
    for name, start, stop in members(content, where=f"shard {shard}"):
        try:
            found, field = split_member(name)
        except DataError as error:
            raise ShardError(f"shard {shard}: {error}") from error
        if key is not None and found != key:
            raise ShardError(
                f"shard {shard}: an index row covers two samples, {key!r} and {found!r}: run 'mps-shards repair'"
            )
        if field in fields:
            raise ShardError(f"shard {shard}: sample {found!r} holds the field {field!r} twice")
        key = found
        fields[field] = view[start:stop]
    if key is None:
        raise ShardError(f"shard {shard}: an index row covers no sample: run 'mps-shards repair'")
    return RawSample(key=key, shard=shard, fields=fields)


def data_size(block: bytes, *, where: str, position: int) -> int:
    """Return the number of data bytes after a header block, whose checksum is verified; 0 for links and folders.

    Raises:
        ShardError: the block is not a header, or is damaged.
    """
    try:
        # POSIX.1: the checksum is the sum of all bytes, with eight spaces in place of the checksum
        field = block[148:156]
        stated = int(field.partition(b"\0")[0], 8) - 256 + sum(field)
        # most bytes are zero, so the sum without them takes a fifth of the time; some old programs sum signed bytes
        if stated != sum(block.translate(None, b"\0")) and stated != _signed_sum(block, field):
            raise ShardError(f"{where}: the header at byte {position} has a wrong checksum")
        if block[156] in b"123456":
            return 0
        if block[156] == ord("S"):
            raise ShardError(f"{where}: the member at byte {position} is a sparse file, which shards cannot hold")
        if block[124] == 0x80:  # GNU base-256, for sizes over 8 GiB
            return int.from_bytes(block[125:136], "big")
        # the size ends at the first NUL, as in tarfile, and therefore in webdataset
        size = int(block[124:136].partition(b"\0")[0].strip() or b"0", 8)
        if size < 0:
            raise ValueError(size)
    except ValueError as error:
        raise ShardError(f"{where}: there is no tar header at byte {position}") from error
    if block[156] in b"xgXLK" and size > MAX_NAMING:
        raise ShardError(
            f"{where}: the header at byte {position} states a name of {size} bytes, more than {MAX_NAMING}"
        )
    return size


def _signed_sum(block: bytes, field: bytes) -> int:
    return sum(memoryview(block).cast("b")) - sum(memoryview(field).cast("b")) + sum(field)


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":  # only USTAR has a prefix; GNU headers hold times at this offset
        prefix = block[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def pax_records(content: bytes, *, where: str, for_all: bool = False) -> dict[str, str]:
    """Parse the records of a pax header, in linear time: ``b"12 path=a.b\\n"`` -> ``{"path": "a.b"}``.

    Args:
        content: the data after the header block.
        where: name of the tar, for messages.
        for_all: whether this is a global header, which applies to all members after it.

    Raises:
        ShardError: the header is malformed, describes a sparse file, or gives all members one name or size.
    """
    records: dict[str, str] = {}
    start, end = 0, len(content.rstrip(b"\0"))
    while start < end:
        digits = content[start : start + 8].partition(b" ")[0]
        stop = start + int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if not start + len(digits) + 3 < stop <= len(content):
            raise ShardError(f"{where}: a pax header is malformed")
        key, _, value = content[start + len(digits) + 1 : stop - 1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        start = stop
    if any(name.startswith("GNU.sparse.") for name in records):
        raise ShardError(f"{where}: the member after a pax header is a sparse file, which shards cannot hold")
    if for_all and ("path" in records or "size" in records):
        raise ShardError(f"{where}: a pax header states one name or size for all members")
    size = records.get("size", "0")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise ShardError(f"{where}: a pax header states the invalid size {size[:20]!r}")
    return records
