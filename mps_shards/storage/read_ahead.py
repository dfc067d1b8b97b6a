"""Read-ahead of pieces of remote files: few large requests, many in flight, within a limit of bytes."""

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

REQUEST_BYTES = 8 << 20  # limit for one request: Amazon and Google advise 8 to 16 MB for ranged requests
_GAP = 256 << 10  # a smaller gap between two pieces is fetched too, since another request would cost more
_IN_FLIGHT = 16  # requests; with 20 ms of latency and 100 MB/s per connection they reach over 1 GB/s
_CLOSE_WAIT_S = 5.0  # wait for requests in flight when reading ends; slower requests end by their own time-outs


class Piece(NamedTuple):
    """Bytes `start` to `stop` of a file, to be used once. Pieces of one unit are fetched together.

    Attributes:
        ticket: number that identifies this use of the bytes, for `ReadAhead.take`.
    """

    ticket: int
    unit: Hashable
    file: tuple[int, ...]
    start: int
    stop: int


class ReadAhead:
    """Fetches pieces in the order in which they will be needed, and keeps each piece until it is taken.

    Pieces are views of the response to a request. They are copied only when memory runs short.

    `take` waits only while its piece is in flight. Taking pieces in another order than planned cannot block, since a
    piece that was not requested yet is then requested at once.

    Args:
        read: function (file, start, stop, stopped) -> bytes, which several threads call.
        max_bytes: limit for pieces in memory and in flight; beyond it, only pieces that are needed next are fetched.
        traffic: counts to which waiting times are added.
    """

    def __init__(self, read: _Read, *, max_bytes: int, traffic: Traffic):
        self._read, self._max_bytes, self._traffic = read, max_bytes, traffic
        self._lock = RLock()  # reentrant: the garbage collector may call `close` while the lock is held
        self._wanted: dict[int, Piece] = {}  # planned pieces that were not requested yet, by ticket
        self._units: dict[Hashable, _Unit] = {}  # the same pieces by unit, in the order of first need
        self._known = 0  # units that are first needed before this ticket are planned completely
        self._flying: dict[int, Future[None]] = {}
        self._held: dict[int, _Answer] = {}
        self._bytes = 0  # bytes of responses in memory and in flight
        self._whole: set[_Answer] = set()  # responses whose pieces are still views of them
        self._spare = 0  # bytes of these responses that belong to no piece any more
        self._jobs: set[Future[None]] = set()  # all running requests, and some that have ended
        self._running = 0
        self._planned_all = False
        self._stopped: Stop = Future()
        self._pid = os.getpid()
        self._pool = ThreadPoolExecutor(2 * _IN_FLIGHT, thread_name_prefix="mps-shards-fetch")

    def plan(self, pieces: Iterable[Piece], *, known: int) -> None:
        """Add pieces that will be needed after all earlier ones.

        Args:
            known: units that are first needed before this ticket get no further pieces and may be fetched.
        """
        with self._lock:
            for piece in pieces:
                self._wanted[piece.ticket] = piece
                self._units.setdefault(piece.unit, _Unit()).add(piece)
            self._known = known
            self._admit()

    def prioritise(self, tickets: Iterable[int]) -> None:
        """State that these pieces are needed next: they are fetched alone if their units do not fit into the limit."""
        with self._lock:
            due = [self._wanted[ticket] for ticket in tickets if ticket in self._wanted]
            if due and not self._fits(self._units[due[0].unit]):
                self._ask_for(due)

    def take(self, ticket: int) -> memoryview:
        """Return the bytes of a piece, after waiting for them if necessary, and forget the piece.

        The bytes may keep the response of a whole request in memory: use them soon, and drop them.

        Raises:
            StorageError: the bytes cannot be read, or reading was stopped.
            Exception: any error that `read` raises.
        """
        with self._lock:
            future = None if ticket in self._held else self._under_way(ticket)
        if future is not None:
            began = time.perf_counter()
            try:
                future.result()  # returns in the end: attempts have time-outs, and `close` settles the future
            except Exception as error:
                with self._lock:
                    self._flying.pop(ticket, None)
                raise type(error)(*error.args) from error  # a new error, since several threads may wait for it
            finally:
                self._traffic.add(waited_s=time.perf_counter() - began)
        with self._lock:
            content = self._take_arrived(ticket)
            self._admit()
            ended = self._planned_all and not (self._held or self._flying or self._wanted)
        if ended:
            self.close()
        return content

    def finish(self) -> None:
        """State that no more pieces will be planned: the read-ahead closes once the last piece was taken."""
        with self._lock:
            self._planned_all = True
            ended = not (self._held or self._flying or self._wanted)
        if ended:
            self.close()

    @property
    def closed(self) -> bool:
        """Whether no piece can be taken any more."""
        return self._stopped.done()

    def close(self) -> None:
        """Wake all waiting threads and drop all pieces. May be called from any thread, any number of times."""
        if self._pid != os.getpid():  # a forked copy, in which the threads and the holder of the lock do not exist
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
        busy = wait([job for job in jobs if not job.cancelled()], _CLOSE_WAIT_S).not_done
        if not busy:
            self._pool.shutdown(wait=True)

    def _take_arrived(self, ticket: int) -> memoryview:
        """Return a piece that has arrived. Its response is freed with its last piece."""
        answer = self._held.pop(ticket)
        content = answer.pieces.pop(ticket)
        if answer.copied:
            self._bytes -= len(content)
            return content
        answer.spare += len(content)
        self._spare += len(content)
        if not answer.pieces:
            self._free_unused(answer)
        return content

    def _free_unused(self, answer: "_Answer") -> None:
        """Keep only the pieces of a response in memory."""
        self._whole.remove(answer)
        self._bytes -= answer.spare
        self._spare -= answer.spare
        answer.copy_pieces()

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
        """Return whether a unit fits into the limit, after freeing memory if that is necessary and enough."""
        excess = self._bytes + unit.bytes - self._max_bytes
        if 0 < excess <= self._spare:
            self._make_room(excess)
        return excess <= 0 or self._bytes + unit.bytes <= self._max_bytes

    def _make_room(self, wanted: int) -> None:
        """Copy the remaining pieces of mostly used responses, so that these responses are freed."""
        for answer in sorted(self._whole, key=lambda answer: answer.spare, reverse=True):
            if wanted <= 0:
                return
            wanted -= answer.spare
            self._free_unused(answer)

    def _admit(self) -> None:
        """Request the units that are needed first, within the limits of requests and bytes."""
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
            except RuntimeError:  # the interpreter is shutting down
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
                answer.copy_pieces()
            del content, pieces
        except Exception as error:  # passed to the threads that take a piece of this request
            failure = error
        with self._lock:
            self._running -= 1
            if future.done():  # `close` was called meanwhile
                return
            if failure is not None:
                self._bytes -= wanted
                future.set_exception(failure)
            else:
                if not answer.copied:
                    self._whole.add(answer)
                self._bytes += answer.spare
                self._spare += answer.spare
                for ticket in answer.pieces:
                    self._held[ticket] = answer
                    del self._flying[ticket]
                future.set_result(None)
            self._admit()


class _Answer:
    """The response to one request: a run of bytes, in memory until its last piece is taken.

    Attributes:
        pieces: pieces that were not taken yet, by ticket.
        spare: number of bytes that belong to no such piece.
        copied: whether each piece has been copied, so that no spare bytes are held.
    """

    __slots__ = ("copied", "pieces", "spare")

    def __init__(self, pieces: dict[int, memoryview], *, spare: int):
        self.pieces, self.spare, self.copied = pieces, spare, False

    def copy_pieces(self) -> None:
        """Copy each piece, so that the other bytes are freed."""
        self.pieces = {ticket: memoryview(bytes(piece)) for ticket, piece in self.pieces.items()}
        self.spare, self.copied = 0, True


class _Unit:
    """Pieces of one unit that were not requested yet, by ticket."""

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
    """Group pieces into requests: pieces of one file, with small gaps, within the limit of bytes."""
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
