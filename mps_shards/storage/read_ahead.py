"""Pieces of remote files, fetched before they are needed: few large requests, many in flight, bounded in bytes."""

import os
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import RLock
from typing import NamedTuple

from mps_shards.errors import StorageError
from mps_shards.storage.folder import Stop, Traffic

__all__ = ["REQUEST_BYTES", "Piece", "ReadAhead"]

_Read = Callable[[tuple[int, ...], int, int, Stop], bytes | memoryview]

REQUEST_BYTES = 8 << 20  # of one request at most: what Amazon and Google advise for ranges is 8 to 16 MB
_GAP = 256 << 10  # less than this between two pieces is fetched too: a request costs more
_IN_FLIGHT = 16  # at 20 ms and 100 MB/s a connection, over 1 GB/s
_FAREWELL_S = 5.0  # for requests under way when reading ends; later ones end by their own time-outs


class Piece(NamedTuple):
    """Bytes `start` to `stop` of a file, wanted once. Pieces of one unit are fetched together.

    Attributes:
        ticket: number of this use, which `ReadAhead.take` is given.
    """

    ticket: int
    unit: Hashable
    file: tuple[int, ...]
    start: int
    stop: int


class ReadAhead:
    """Fetches pieces in the order in which they will be needed, and keeps each until it is taken.

    Pieces are views of what a request brought. Only where room is needed are they copied out of it.

    Whoever takes a piece waits only while it is under way; taking in another order than planned cannot block, since a
    piece that nobody has asked for yet is then asked for at once.

    Args:
        read: (file, start, stop, stopped) -> their bytes. Called from several threads.
        max_bytes: of pieces in memory and under way; above it only those are fetched that are needed next.
        traffic: where waiting is counted.
    """

    def __init__(self, read: _Read, *, max_bytes: int, traffic: Traffic):
        self._read, self._max_bytes, self._traffic = read, max_bytes, traffic
        self._lock = RLock()  # reentrant: the collector may close an abandoned reading inside of it
        self._wanted: dict[int, Piece] = {}  # by ticket; not asked for yet
        self._units: dict[Hashable, _Unit] = {}  # the same, in the order of first need
        self._known = 0  # units that are first needed before this ticket are planned to their end
        self._flying: dict[int, Future[None]] = {}
        self._held: dict[int, _Answer] = {}
        self._bytes = 0  # of answers in memory and under way
        self._whole: set[_Answer] = set()  # those whose pieces are still views of them
        self._spare = 0  # bytes of those that are no piece's any more
        self._jobs: set[Future[None]] = set()  # those that have not ended, and some that have
        self._running = 0
        self._planned_all = False
        self._stopped: Stop = Future()
        self._pid = os.getpid()
        self._pool = ThreadPoolExecutor(2 * _IN_FLIGHT, thread_name_prefix="mps-shards-fetch")

    def plan(self, pieces: Iterable[Piece], *, known: int) -> None:
        """Add pieces that will be needed after those before.

        Args:
            known: units that are first needed before this ticket have no more pieces to come: they may be fetched.
        """
        with self._lock:
            for piece in pieces:
                self._wanted[piece.ticket] = piece
                self._units.setdefault(piece.unit, _Unit()).add(piece)
            self._known = known
            self._admit()

    def prioritise(self, tickets: Iterable[int]) -> None:
        """Say that these are needed next: they are fetched by themselves where their units have no room."""
        with self._lock:
            due = [self._wanted[ticket] for ticket in tickets if ticket in self._wanted]
            if due and not self._fits(self._units[due[0].unit]):
                self._ask_for(due)

    def take(self, ticket: int) -> memoryview:
        """The bytes of a piece, which is then forgotten. Waits for them if need be.

        They may keep those of a whole request in memory: use them soon, and let go.

        Raises:
            StorageError: they cannot be had, or reading was stopped. Whatever `read` raises.
        """
        with self._lock:
            future = None if ticket in self._held else self._under_way(ticket)
        if future is not None:
            began = time.perf_counter()
            try:
                future.result()  # ends: each attempt has its time-outs, and stopping settles it
            except Exception as error:
                with self._lock:
                    self._flying.pop(ticket, None)
                raise type(error)(*error.args) from error  # a new one: many may wait for this request
            finally:
                self._traffic.add(waited_s=time.perf_counter() - began)
        with self._lock:
            content = self._given(ticket)
            self._admit()
            ended = self._planned_all and not (self._held or self._flying or self._wanted)
        if ended:
            self.close()
        return content

    def finish(self) -> None:
        """Say that nothing more is planned: it closes once the last piece was taken."""
        with self._lock:
            self._planned_all = True
            ended = not (self._held or self._flying or self._wanted)
        if ended:
            self.close()

    @property
    def closed(self) -> bool:
        """Whether nothing can be taken any more."""
        return self._stopped.done()

    def close(self) -> None:
        """Wake whoever waits, and forget everything. From any thread, any number of times."""
        if self._pid != os.getpid():  # a fork's copy: the threads, and whoever held the lock, are not here
            return
        with self._lock:
            if not self.closed:
                self._stopped.set_result(None)
            for future in self._flying.values():
                if not future.done():
                    future.set_exception(StorageError("reading was stopped"))
            self._wanted, self._units, self._held, self._whole, self._flying = {}, {}, {}, set(), {}
            jobs = list(self._jobs)
        self._pool.shutdown(wait=False, cancel_futures=True)
        busy = wait([job for job in jobs if not job.cancelled()], _FAREWELL_S).not_done
        if not busy:
            self._pool.shutdown(wait=True)

    def _given(self, ticket: int) -> memoryview:
        """A piece that is here. Its answer leaves memory with the last piece."""
        answer = self._held.pop(ticket)
        content = answer.pieces.pop(ticket)
        if answer.apart:
            self._bytes -= len(content)
            return content
        answer.spare += len(content)
        self._spare += len(content)
        if not answer.pieces:
            self._let_go(answer)
        return content

    def _let_go(self, answer: "_Answer") -> None:
        """Leave only the pieces of it in memory."""
        self._whole.remove(answer)
        self._bytes -= answer.spare
        self._spare -= answer.spare
        answer.part()

    def _under_way(self, ticket: int) -> "Future[None]":
        piece = self._wanted.get(ticket)
        if piece is not None:
            unit = self._units[piece.unit]
            self._ask_for(list(unit.pieces.values()) if self._fits(unit) else [piece])
        future = self._flying.get(ticket)
        if future is None:
            raise StorageError("reading was stopped")
        return future

    def _fits(self, unit: "_Unit") -> bool:
        """Whether there is room for a unit, or could be made; then it is."""
        excess = self._bytes + unit.bytes - self._max_bytes
        if 0 < excess <= self._spare:
            self._make_room(excess)
        return excess <= 0 or self._bytes + unit.bytes <= self._max_bytes

    def _make_room(self, wanted: int) -> None:
        """Copy what is still needed of answers of which most was taken, so that they leave memory."""
        for answer in sorted(self._whole, key=lambda answer: answer.spare, reverse=True):
            if wanted <= 0:
                return
            wanted -= answer.spare
            self._let_go(answer)

    def _admit(self) -> None:
        """Ask for the units that are needed first, as far as requests and bytes allow."""
        while self._units and self._running < _IN_FLIGHT:
            unit = next(iter(self._units.values()))
            if next(iter(unit.pieces)) >= self._known or not self._fits(unit):
                return
            self._ask_for(list(unit.pieces.values()))

    def _ask_for(self, pieces: Sequence[Piece]) -> None:
        for run in _runs(pieces):
            future: Future[None] = Future()
            for piece in run:
                del self._wanted[piece.ticket]
                unit = self._units[piece.unit]
                unit.remove(piece)
                if not unit.pieces:
                    del self._units[piece.unit]
                self._flying[piece.ticket] = future
                self._bytes += piece.stop - piece.start
            try:
                job = self._pool.submit(self._fetch, run, future)
            except RuntimeError:  # the interpreter is ending
                future.set_exception(StorageError("reading was stopped"))
                return
            self._running += 1
            self._jobs = {job, *(each for each in self._jobs if not each.done())}

    def _fetch(self, run: list[Piece], future: "Future[None]") -> None:
        start, stop = run[0].start, max(piece.stop for piece in run)
        wanted = sum(piece.stop - piece.start for piece in run)
        failure: Exception | None = None
        try:
            content = memoryview(self._read(run[0].file, start, stop, self._stopped))
            pieces = {piece.ticket: content[piece.start - start : piece.stop - start] for piece in run}
            answer = _Answer(pieces, spare=stop - start - wanted)
            if answer.spare > wanted // 8:
                answer.part()
            del content, pieces
        except Exception as error:  # it changes thread here, and is raised where a piece of it is taken
            failure = error
        with self._lock:
            self._running -= 1
            if future.done():  # closed meanwhile
                return
            if failure is not None:
                self._bytes -= wanted
                future.set_exception(failure)
            else:
                if not answer.apart:
                    self._whole.add(answer)
                self._bytes += answer.spare
                self._spare += answer.spare
                for ticket in answer.pieces:
                    self._held[ticket] = answer
                    del self._flying[ticket]
                future.set_result(None)
            self._admit()


class _Answer:
    """What one request brought: one run of bytes, in memory until its last piece is taken.

    Attributes:
        pieces: what was not taken yet, by ticket.
        spare: bytes beside those.
        apart: each piece is in memory by itself, and nothing is spare.
    """

    __slots__ = ("apart", "pieces", "spare")

    def __init__(self, pieces: dict[int, memoryview], *, spare: int):
        self.pieces, self.spare, self.apart = pieces, spare, False

    def part(self) -> None:
        """Copy each piece, so that the rest leaves memory."""
        self.pieces = {ticket: memoryview(bytes(piece)) for ticket, piece in self.pieces.items()}
        self.spare, self.apart = 0, True


class _Unit:
    """Pieces of one unit that nobody has asked for yet, by ticket."""

    __slots__ = ("bytes", "pieces")

    def __init__(self) -> None:
        self.pieces: dict[int, Piece] = {}
        self.bytes = 0

    def add(self, piece: Piece) -> None:
        self.pieces[piece.ticket] = piece
        self.bytes += piece.stop - piece.start

    def remove(self, piece: Piece) -> None:
        del self.pieces[piece.ticket]
        self.bytes -= piece.stop - piece.start


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that one request fetches: of one file, with small gaps, and not too many bytes."""
    runs: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: (piece.file, piece.start)):
        run = runs[-1] if runs else None
        if (
            run is not None
            and piece.file == run[0].file
            and piece.start - run[-1].stop <= _GAP
            and piece.stop - run[0].start <= REQUEST_BYTES
        ):
            run.append(piece)
        else:
            runs.append([piece])
    return runs
