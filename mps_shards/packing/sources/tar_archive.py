"""Tar archives, plain or compressed by gzip: their members, and the bytes of each, without unpacking to disk."""

import bisect
import posixpath
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from mps_shards.errors import DataError, ShardError
from mps_shards.packing.sources.archive_members import Member, clean_path
from mps_shards.shards.tar import BLOCK, REGULAR, walk

__all__ = ["GzipBytes", "tar_members"]

_LINKS = (ord("1"), ord("2"))  # hard and symbolic
_INPUT = 1 << 14  # compressed bytes that are read at a time
_STATE = 60_000  # bytes of a decompressor: the last 32 KB of its output, its tables, and the remaining input
_MAX_STATES = 256 << 20  # bytes of all stored states of the decompressor
_MIN_STEP = 1 << 16  # bytes of compressed data between two stored states


def tar_members(read: Callable[[int, int], bytes], start: int, stop: int, *, where: str) -> Iterator[Member]:
    """Every file and link of a tar; the place of a file is the offset of its data.

    Args:
        read: bytes from one offset to another.
        start, stop: range of the tar in the file.
        where: path of the tar, for messages.

    Raises:
        DataError: the tar is damaged.
    """
    try:
        for entry in walk(lambda begin, end: read(start + begin, start + end), stop - start, where=where):
            if entry.kind in REGULAR:
                yield Member(clean_path(entry.name, where=where), entry.stop - entry.start, start + entry.start)
            elif entry.kind in _LINKS:
                path = clean_path(entry.name, where=where)
                yield Member(path, 0, -1, link=_target(read(start + entry.start - BLOCK, start + entry.start), path))
    except ShardError as error:
        raise DataError(f"{error}; make or download the archive again") from error


def _target(header: bytes, path: str) -> str:
    """The path that a link points to. Hard links start at the root of the archive, symbolic links at their folder."""
    name = header[157:257].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    base = posixpath.dirname(path) if header[156] == ord("2") else ""
    return posixpath.normpath(posixpath.join(base, name))


class GzipBytes:
    """A gzip file that can be read at any offset of its decompressed content.

    The first read, from start to end, keeps the state of the decompressor at regular distances; a later read continues
    from the nearest state before its offset. The states take at most 256 MB of memory.

    Args:
        read: function that returns the compressed bytes from one offset to another.
        size: number of compressed bytes.
        where: path of the file, for messages.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, *, where: str):
        self._read = read
        self._packed = size
        self._where = where
        self._step = max(_MIN_STEP, size * _STATE // _MAX_STATES)
        self._kept: list[_Cursor] = [_Cursor(zlib.decompressobj(31), 0, 0)]
        self._starts = [0]  # decompressed offset of each state
        self._keeping = threading.Lock()
        self._local = threading.local()

    def read(self, start: int, stop: int) -> bytes:
        """Decompressed bytes from one offset to another; fewer only at the end of the content.

        Raises:
            DataError: the file is damaged.
        """
        nearest = self._kept[bisect.bisect_right(self._starts, start) - 1]
        cursor = getattr(self._local, "cursor", None)
        if cursor is None or not nearest.position <= cursor.position <= start:
            cursor = nearest.copy()
        self._local.cursor = None
        pieces = []
        while cursor.position < stop:
            piece = self._next(cursor, min(1 << 20, max(start, stop) - cursor.position))
            if piece is None:
                break
            behind = cursor.position - start
            if behind > 0:
                pieces.append(piece[-behind:] if behind < len(piece) else piece)
        self._local.cursor = cursor
        return b"".join(pieces)

    def _next(self, cursor: "_Cursor", limit: int) -> bytes | None:
        """Up to `limit` more bytes; None at the end."""
        piece: bytes
        try:
            while True:
                if cursor.engine.eof:
                    rest = cursor.engine.unused_data.lstrip(b"\0") + self._input(cursor)
                    if not rest:
                        return None
                    cursor.engine = zlib.decompressobj(31)  # the file is a series of gzip files
                    piece = cursor.engine.decompress(rest, limit)
                else:
                    rest = cursor.engine.unconsumed_tail or self._input(cursor)
                    piece = cursor.engine.decompress(rest, limit)
                    if not (rest or piece or cursor.engine.eof):
                        raise DataError(f"{self._where} ends early; download it again")
                if piece:
                    cursor.position += len(piece)
                    self._keep(cursor)
                    return piece
        except zlib.error as error:
            raise DataError(f"{self._where} is damaged ({error}); download it again") from error

    def _input(self, cursor: "_Cursor") -> bytes:
        content = self._read(cursor.packed, min(self._packed, cursor.packed + _INPUT))
        cursor.packed += len(content)
        return content

    def _keep(self, cursor: "_Cursor") -> None:
        if cursor.packed - self._kept[-1].packed < self._step or cursor.position <= self._starts[-1]:
            return
        with self._keeping:
            if cursor.position > self._starts[-1]:
                self._kept.append(cursor.copy())
                self._starts.append(cursor.position)


class _Cursor:
    """A decompressor, and its offsets in the compressed and the decompressed bytes."""

    __slots__ = ("engine", "packed", "position")

    def __init__(self, engine: Any, packed: int, position: int):
        self.engine, self.packed, self.position = engine, packed, position

    def copy(self) -> "_Cursor":
        return _Cursor(self.engine.copy(), self.packed, self.position)
