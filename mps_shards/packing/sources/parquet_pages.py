"""The place of each value in a binary Parquet column, so that one image can be read without the other images.

pyarrow reads whole row groups, but packing reads images in random order. The listing therefore reads the pages of a
column once, because it needs the sizes of the images anyway, and records the page and the offset of each value.
Written after the Parquet format, version 2.11 (apache/parquet-format: Encodings.md, src/main/thrift/parquet.thrift).
"""

import struct
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.sources.table_source import Value

__all__ = ["ColumnChunk", "PageReader"]

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # page types
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8  # encodings
_ENCODINGS = {5: "DELTA_BINARY_PACKED", 6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY", 9: "BYTE_STREAM_SPLIT"}
_MAX_CACHE = 256 << 20  # bytes of unpacked pages

Integers = npt.NDArray[np.int64]


class ColumnChunk(NamedTuple):
    """The pages of one column in one row group.

    Attributes:
        file: number of the file.
        start, stop: range of the pages in the file.
        rows: number of rows of the row group.
        codec: name of the compression for pyarrow; "" for none.
        levels: definition level of a value that exists; a lower level means null.
    """

    file: int
    start: int
    stop: int
    rows: int
    codec: str
    levels: int


class _Page(NamedTuple):
    kind: int
    values: int
    encoding: int
    content: bytes  # decompressed; without the levels if these are stored apart
    levels: bytes  # stored apart in version 2
    number: int  # index in the table of pages


class PageReader:
    """Reads values of binary columns by their places. Holds at most 256 MB of unpacked pages.

    Args:
        read: function that returns the bytes of a file, given by its number, from one offset to another.
        names: names of the files, for messages.
    """

    def __init__(self, read: Callable[[int, int, int], bytes], names: list[str]):
        self._read = read
        self._names = names
        self._files, self._offsets = array("L"), array("Q")
        self._packed, self._unpacked = array("L"), array("L")
        self._codecs: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0

    def values(self, chunk: ColumnChunk) -> Iterator[Value]:
        """Yield the values of a column chunk in the order of its rows.

        Raises:
            ConfigError: the encoding of the values is not supported.
            DataError: the file is damaged.
        """
        dictionary: list[tuple[int, int, bytes]] = []
        for page in self._pages(chunk):
            if page.kind == _DICTIONARY:
                dictionary = list(_plain(page, page.content, 0, page.values))
                continue
            present, start = self._present(page, chunk)
            count = int(present.sum())
            if page.encoding == _PLAIN:
                found: Iterator[tuple[int, int, bytes]] = _plain(page, page.content, start, count)
            elif page.encoding in (_PLAIN_DICTIONARY, _RLE_DICTIONARY):
                width = page.content[start] if start < len(page.content) else 0
                indices = _hybrid(page.content, start + 1, width, count)
                found = (dictionary[index] for index in indices.tolist())
            else:
                name = _ENCODINGS.get(page.encoding, str(page.encoding))
                raise ConfigError(
                    f"{self._names[chunk.file]}: its images are encoded by {name}, which cannot be read; write the "
                    "file again, for example with pyarrow.parquet.write_table"
                )
            for is_present in present.tolist():
                yield Value(*next(found)) if is_present else Value(-1, -1, b"")

    def read(self, place: int, size: int) -> bytes:
        """Return the bytes of a value. May be called from many threads."""
        page, position = place >> 32, place & 0xFFFFFFFF
        if not self._codecs[page]:
            start = self._offsets[page] + position
            return self._read(self._files[page], start, start + size)
        with self._lock:
            content = self._cache.get(page)
            if content is not None:
                self._cache.move_to_end(page)
        if content is None:
            content = self._unpack(page)
            with self._lock:
                if page not in self._cache:
                    self._cache[page] = content
                    self._cached += len(content)
                while self._cached > _MAX_CACHE and len(self._cache) > 1:
                    self._cached -= len(self._cache.popitem(last=False)[1])
        return content[position : position + size]

    def file_of(self, place: int) -> int:
        """Return the number of the file that holds a value."""
        return self._files[place >> 32]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_cache", "_cached")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _pages(self, chunk: ColumnChunk) -> Iterator[_Page]:
        content = self._read(chunk.file, chunk.start, chunk.stop)
        position = rows = 0
        while rows < chunk.rows:
            try:
                header, start = _structure(content, position)
                kind, unpacked, packed = header[1], header[2], header[3]
                about = header[{_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}[kind]]
                values, encoding = about[1], about[4 if kind == _DATA_V2 else 2]
            except (KeyError, IndexError, TypeError, struct.error) as error:
                raise DataError(
                    f"{self._names[chunk.file]}: a page header at byte {chunk.start + position} is damaged"
                ) from error
            position = start + packed
            levels = b""
            codec = chunk.codec
            if kind == _DATA_V2:
                apart = about.get(5, 0) + about.get(6, 0)
                levels = content[start + about.get(6, 0) : start + apart]
                start, packed, unpacked = start + apart, packed - apart, unpacked - apart
                codec = codec if about.get(7, True) else ""
            self._files.append(chunk.file)
            self._offsets.append(chunk.start + start)
            self._packed.append(packed)
            self._unpacked.append(unpacked)
            self._codecs.append(codec)
            number = len(self._codecs) - 1
            piece = content[start : start + packed]
            if codec:
                piece = _unpacked(codec, piece, unpacked, self._names[chunk.file])
            if kind != _DICTIONARY:
                rows += values
            yield _Page(kind, values, encoding, piece, levels, number)

    def _unpack(self, page: int) -> bytes:
        start = self._offsets[page]
        piece = self._read(self._files[page], start, start + self._packed[page])
        return _unpacked(self._codecs[page], piece, self._unpacked[page], self._names[self._files[page]])

    def _present(self, page: _Page, chunk: ColumnChunk) -> tuple[npt.NDArray[np.bool_], int]:
        """Return which values are not null, and the start of the values."""
        if not chunk.levels:
            return np.ones(page.values, bool), 0
        width = chunk.levels.bit_length()
        if page.kind == _DATA_V2:
            return _hybrid(page.levels, 0, width, page.values) == chunk.levels, 0
        (length,) = struct.unpack_from("<I", page.content)
        return _hybrid(page.content, 4, width, page.values) == chunk.levels, 4 + length


def _unpacked(codec: str, content: bytes, size: int, name: str) -> bytes:
    import pyarrow

    try:
        return bytes(pyarrow.Codec(codec).decompress(content, decompressed_size=size, asbytes=True))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{name}: a page cannot be unpacked ({error}); download the file again") from error


def _plain(page: _Page, content: bytes, position: int, count: int) -> Iterator[tuple[int, int, bytes]]:
    """Return places, sizes and first bytes of adjacent values, each of which follows its length."""
    base = page.number << 32
    for _ in range(count):
        size = int.from_bytes(content[position : position + 4], "little")
        position += 4
        if position + size > len(content):
            raise DataError("a value of a Parquet page ends after the page; download the file again")
        yield base | position, size, content[position : position + 16]
        position += size


def _hybrid(content: bytes, position: int, width: int, count: int) -> Integers:
    """Decode integers of `width` bits, which are stored in runs of one value or in packed groups of eight."""
    found: list[Integers] = []
    total = 0
    while total < count:
        if not width:
            found.append(np.zeros(count - total, np.int64))
            break
        header, position = _varint(content, position)
        if header & 1:
            size = (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(content[position : position + size], np.uint8), bitorder="little")
            values = bits[: len(bits) // width * width].reshape(-1, width).astype(np.int64) @ (1 << np.arange(width))
            position += size
        else:
            size = (width + 7) // 8
            values = np.full(header >> 1, int.from_bytes(content[position : position + size], "little"))
            position += size
        if not len(values):
            raise DataError("a run of a Parquet page is empty; download the file again")
        found.append(values)
        total += len(values)
    return np.concatenate([np.empty(0, np.int64), *found])[:count]


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7


def _structure(content: bytes, position: int) -> tuple[dict[int, Any], int]:
    """Return a structure of Thrift's compact protocol by field number, and the position of its end."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        byte = content[position]
        position += 1
        if not byte:
            return fields, position
        if byte >> 4:
            number += byte >> 4
        else:
            value, position = _varint(content, position)
            number = _signed(value)
        fields[number], position = _field(content, position, byte & 15)


def _field(content: bytes, position: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, position
    if kind == 3:
        return content[position], position + 1
    if kind in (4, 5, 6):
        value, position = _varint(content, position)
        return _signed(value), position
    if kind == 7:
        return content[position : position + 8], position + 8
    if kind == 8:
        size, position = _varint(content, position)
        return content[position : position + size], position + size
    if kind in (9, 10):
        head = content[position]
        position += 1
        size = head >> 4
        if size == 15:
            size, position = _varint(content, position)
        values = []
        for _ in range(size):
            value, position = _field(content, position, head & 15)
            values.append(value)
        return values, position
    if kind == 12:
        return _structure(content, position)
    raise KeyError(kind)


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)
