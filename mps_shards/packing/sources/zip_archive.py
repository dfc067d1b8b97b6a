"""Reading of zip archives without unpacking them to disk."""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mps_shards.errors import DataError
from mps_shards.packing.sources.archive_members import Member, clean_path

__all__ = ["ZipArchive"]

# PKWARE's APPNOTE.TXT 6.3.10: 4.3.7 local header, 4.3.12 central directory, 4.3.14 to 4.3.16 its end, with and without
# 64-bit numbers
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_MAX_END = _END.size + (1 << 16)  # a comment may follow
_STORED, _DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ"}
_STEP = 1 << 20


class _Record(NamedTuple):
    name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    offset: int
    length: int


class ZipArchive:
    """A zip archive in a range of a file.

    Args:
        read: function that returns the bytes from one offset of the file to another.
        start, stop: range of the archive in the file.
        where: the path of the archive, for messages.
    """

    def __init__(self, read: Callable[[int, int], bytes], start: int, stop: int, *, where: str):
        self._read = read
        self._start, self._stop = start, stop
        self._where = where

    def members(self) -> Iterator[Member]:
        """Yield every file of the archive; its place is the offset of its record in the central directory.

        Raises:
            DataError: the archive is damaged, or a member is encrypted.
        """
        position, end = self._directory()
        buffer, begin = b"", position
        while position < end:
            if position - begin + _CENTRAL.size + 3 * 65536 > len(buffer):  # one record and its three texts
                buffer, begin = self._read(position, min(end, position + _STEP)), position
            record = self._record(buffer, position - begin)
            name = _decoded(record)
            if not name.endswith("/"):
                if record.flags & 1:
                    raise DataError(
                        f"{self._where}: the member {name!r} is encrypted; unpack the archive with its password"
                    )
                yield Member(clean_path(name, where=self._where), record.size, position)
            position += record.length

    def read(self, place: int) -> bytes:
        """Return the whole content of a member.

        Raises:
            DataError: the member is damaged, or its compression method is not supported.
        """
        record = self._at(place)
        start, stop = self._data(record)
        content = self._read(start, stop)
        if record.method == _DEFLATED:
            try:
                content = zlib.decompressobj(-15).decompress(content, record.size + 1)  # no more than is stated
            except zlib.error as error:
                raise self._damaged(record, str(error)) from error
        elif record.method != _STORED:
            method = _METHODS.get(record.method, f"method {record.method}")
            raise DataError(
                f"{self._where}: {_decoded(record)!r} is compressed by {method}, which cannot be read; unpack it"
            )
        if len(content) != record.size or zlib.crc32(content) != record.crc32:
            raise self._damaged(record, "its checksum does not match")
        return content

    def stored(self, place: int) -> tuple[int, int] | None:
        """Return the range of a member's content in the file, if the content is not compressed."""
        record = self._at(place)
        return self._data(record) if record.method == _STORED else None

    def checksum(self, place: int) -> bytes:
        """Return the CRC-32 that the archive states for a member, without reading the member."""
        return self._at(place).crc32.to_bytes(4)

    def _damaged(self, record: _Record, why: str) -> DataError:
        return DataError(f"{self._where}: {_decoded(record)!r} is damaged: {why}; download the archive again")

    def _at(self, place: int) -> _Record:
        return self._record(self._read(place, min(self._stop, place + _CENTRAL.size + 1024)), 0, place)

    def _record(self, buffer: bytes, at: int, place: int = -1) -> _Record:
        try:
            (signature, _, _, flags, method, _, _, crc32, packed, size, *lengths, _, _, _, offset) = (
                _CENTRAL.unpack_from(buffer, at)
            )
        except struct.error as error:
            raise DataError(f"{self._where}: its directory ends early; download the archive again") from error
        if signature != b"PK\1\2":
            raise DataError(f"{self._where}: its directory is damaged; download the archive again")
        texts = at + _CENTRAL.size
        total = sum(lengths)
        if texts + total > len(buffer) and place >= 0:
            buffer = self._read(place, min(self._stop, place + _CENTRAL.size + total))
        name = buffer[texts : texts + lengths[0]]
        if 0xFFFFFFFF in (packed, size, offset):
            extra = buffer[texts + lengths[0] : texts + lengths[0] + lengths[1]]
            size, packed, offset = _wide(extra, size, packed, offset)
        return _Record(name, flags, method, crc32, packed, size, offset, _CENTRAL.size + total)

    def _data(self, record: _Record) -> tuple[int, int]:
        begin = self._start + record.offset
        header = self._read(begin, min(self._stop, begin + _LOCAL.size))
        if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
            raise self._damaged(record, "the header is not where the directory says")
        *_, name, extra = _LOCAL.unpack(header)
        start = begin + _LOCAL.size + name + extra
        if start + record.packed > self._stop:
            raise self._damaged(record, "it ends after the end of the archive")
        return start, start + record.packed

    def _directory(self) -> tuple[int, int]:
        """Return start and end of the central directory. Bytes before the archive (a program) shift the offsets."""
        begin = max(self._start, self._stop - _MAX_END)
        tail = self._read(begin, self._stop)
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > len(tail):
            raise DataError(f"{self._where} is not a complete zip archive: its directory is missing; download it again")
        *_, size, offset, _ = _END.unpack_from(tail, at)
        end = begin + at
        if at >= _END_64_LOCATOR.size and tail[at - _END_64_LOCATOR.size :][:4] == b"PK\6\7":
            _, _, wide, _ = _END_64_LOCATOR.unpack_from(tail, at - _END_64_LOCATOR.size)
            record = self._read(self._start + wide, self._start + wide + _END_64.size)
            if record[:4] != b"PK\6\6" or len(record) < _END_64.size:
                raise DataError(f"{self._where}: its directory is damaged; download the archive again")
            *_, size, offset = _END_64.unpack(record)
            end = self._start + wide
        self._start = end - size - offset
        if self._start < 0:
            raise DataError(f"{self._where}: its directory is damaged; download the archive again")
        return end - size, end


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the three numbers, read from the extra field 1 (4.5.3) if they need 64 bits."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        field = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == 1:
            numbers = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            size, packed, offset = (
                next(numbers, value) if value == 0xFFFFFFFF else value for value in (size, packed, offset)
            )
    return size, packed, offset


def _decoded(record: _Record) -> str:
    """Return the name of a member. It is in UTF-8, or in code page 437 if it is not marked as and not valid UTF-8."""
    try:
        return record.name.decode("utf-8")
    except UnicodeDecodeError:
        return record.name.decode("utf-8" if record.flags & 0x800 else "cp437", "surrogateescape")
