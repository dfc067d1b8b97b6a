"""Reading of tar archives, plain or compressed by gzip, without unpacking them to disk."""

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
_STATE = 60_000  # bytes that a decompressor takes: the last 32 KB of its output, its tables, and the remaining input
_MAX_STATES = 256 << 20  # bytes of all stored states of the decompressor
_MIN_STEP = 1 << 14  # bytes of compressed data between two stored states
_MAX_CONTENT = 256 << 20  # bytes of decompressed content that are held in memory
_PIECE = 1 << 20  # bytes that are decompressed at a time, at most


def tar_members(read: Callable[[int, int], bytes], start: int, stop: int, *, where: str) -> Iterator[Member]:
    """Yield every file and link of a tar; the place of a file is the offset of its data.

    Args:
        read: function that returns the bytes from one offset to another.
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
        remedy = "make or download the archive again"
        if "sparse" in str(error):
            remedy = "unpack the archive, and pack the folder"
        raise DataError(f"{error}; {remedy}") from error


def _target(header: bytes, path: str) -> str:
    """Return the path that a link points to, relative to the archive if it is hard, and to its folder if symbolic."""
    name = header[157:257].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    base = posixpath.dirname(path) if header[156] == ord("2") else ""
    return posixpath.normpath(posixpath.join(base, name))


class GzipBytes:
    """A gzip file that can be read at any offset of its decompressed content, from any thread.

    Content of up to 256 MB is decompressed once and held in memory. For longer content, the first read from start to
    end keeps the state of the decompressor at regular distances, which together take at most 256 MB; a later read
    continues from the nearest state before its offset.

    Args:
        read: function that returns the compressed bytes from one offset to another.
        size: number of compressed bytes.
        where: path of the file, for messages.
        max_content: bytes of decompressed content that may be held in memory.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, *, where: str, max_content: int = _MAX_CONTENT):
        self._read = read
        self._packed = size
        self._where = where
        self._max_content = max_content
        self._content: _Content | None = _Content() if size <= max_content else None
        self._decompressing = threading.Lock()
        self._front = self._start()
        self._step = max(_MIN_STEP, size * _STATE // _MAX_STATES)
        self._kept: list[_Cursor] = [self._start()]
        self._starts = [0]  # decompressed offset of each state
        self._keeping = threading.Lock()
        self._local = threading.local()

    def read(self, start: int, stop: int) -> bytes:
        """Return decompressed bytes from one offset to another; fewer only at the end of the content.

        Raises:
            DataError: the file is damaged.
        """
        content = self._content_until(stop)
        return self._from_state(start, stop) if content is None else content.read(start, stop)

    def _content_until(self, stop: int) -> "_Content | None":
        """Return the content in memory, decompressed up to an offset; None if it is too long for memory."""
        content = self._content
        if content is None or content.size >= stop:
            return content
        with self._decompressing:
            while self._content is not None and self._content.size < stop:
                piece = self._next(self._front, _PIECE)
                if piece is None:
                    break
                self._content.append(piece)
                if self._content.size > self._max_content:
                    self._content, self._front = None, self._start()
            return self._content

    def _start(self) -> "_Cursor":
        return _Cursor(zlib.decompressobj(31), 0, 0)

    def _from_state(self, start: int, stop: int) -> bytes:
        nearest = self._kept[bisect.bisect_right(self._starts, start) - 1]
        cursor = getattr(self._local, "cursor", None)
        if cursor is None or not nearest.position <= cursor.position <= start:
            cursor = nearest.copy()
        self._local.cursor = None
        pieces = []
        while cursor.position < stop:
            piece = self._next(cursor, min(_PIECE, max(start, stop) - cursor.position))
            if piece is None:
                break
            self._keep(cursor)
            behind = cursor.position - start
            if behind > 0:
                pieces.append(piece[-behind:] if behind < len(piece) else piece)
        self._local.cursor = cursor
        return b"".join(pieces)

    def _next(self, cursor: "_Cursor", limit: int) -> bytes | None:
        """Return up to `limit` more decompressed bytes; None at the end."""
        piece: bytes
        try:
            while True:
                if cursor.engine.eof:
                    rest = cursor.engine.unused_data.lstrip(b"\0") + self._input(cursor)
                    if not rest:
                        return None
                    cursor.engine = zlib.decompressobj(31)  # the file may be several gzip files, one after another
                    piece = cursor.engine.decompress(rest, limit)
                else:
                    rest = cursor.engine.unconsumed_tail or self._input(cursor)
                    piece = cursor.engine.decompress(rest, limit)
                    if not (rest or piece or cursor.engine.eof):
                        raise DataError(f"{self._where} ends early; download it again")
                if piece:
                    cursor.position += len(piece)
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


class _Content:
    """Decompressed bytes from the start of a file on. One thread appends while others read what was there before."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        self.size = 0

    def append(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._starts.append(self.size)
        self.size += len(piece)

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        first = bisect.bisect_right(self._starts, start) - 1
        last = bisect.bisect_left(self._starts, stop, first) - 1
        begin = start - self._starts[first]
        if first == last:
            return self._pieces[first][begin : stop - self._starts[first]]
        ending = self._pieces[last][: stop - self._starts[last]]
        return b"".join((self._pieces[first][begin:], *self._pieces[first + 1 : last], ending))


class _Cursor:
    """A decompressor, and its offsets in the compressed and the decompressed bytes."""

    __slots__ = ("engine", "packed", "position")

    def __init__(self, engine: Any, packed: int, position: int):
        self.engine, self.packed, self.position = engine, packed, position

    def copy(self) -> "_Cursor":
        return _Cursor(self.engine.copy(), self.packed, self.position)
