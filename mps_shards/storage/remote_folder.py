"""A folder in a store, read with patience: attempts are repeated, and two objects are never mixed."""

import io
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage import retries
from mps_shards.storage.backend import (
    AccessDenied,
    Answer,
    Backend,
    FileMissing,
    Identity,
    NoRanges,
    Traffic,
    Transient,
)
from mps_shards.storage.fsspec_backend import OtherBackend
from mps_shards.storage.local_disk import LocalBackend
from mps_shards.storage.object_store import SCHEMES, ObjectBackend
from mps_shards.storage.urls import Prefix, scheme_of

__all__ = ["RemoteFile", "RemoteFolder", "Stop"]

_T = TypeVar("_T")
_Pieces: TypeAlias = Generator[memoryview, None, None]

_PROGRESS = 64 << 10  # a connection that brings less than this before it breaks has brought nothing

Stop: TypeAlias = Future[None]  # done, once nobody wants the bytes any more


class RemoteFolder:
    """Files of one folder, by name. From any thread, and safe to pickle and to fork.

    The first answer about a file fixes which object it is, by size and etag; an answer of another one is an error.
    """

    def __init__(self, where: Prefix | Path):
        self.where = where
        self.traffic = Traffic()
        self._backend = _backend(where)
        self._seen: dict[str, Identity] = {}

    @property
    def tells_identity(self) -> bool:
        """Whether a replaced file is always found out; else contents should be verified."""
        return self._backend.tells_identity

    def identity(self, name: str) -> Identity:
        """Size and etag of a file.

        Raises:
            FileMissing: there is none.
            StorageError: the store does not answer.
        """
        if name not in self._seen:
            self._check(name, self._patiently(name, lambda: self._backend.head(name)))
        return self._seen[name]

    def seen(self, name: str) -> Identity | None:
        """Size and etag of a file, as the first answer about it said; None before that."""
        return self._seen.get(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file, that may be read."""
        try:
            self.identity(name)
        except (FileMissing, AccessDenied):
            return False
        return True

    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> memoryview:
        """Bytes of a file from `start` up to `stop`.

        Args:
            stopped: gives up as soon as this is done.

        Raises:
            FileMissing: there is no such file.
            StorageError: it was replaced, ends before `stop`, or the store did not give it.
        """
        pieces = list(self._pieces(name, start, stop, stopped))
        content = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        if len(content) != stop - start:
            end = start + len(content)
            raise StorageError(
                f"{self.where / name} ends at byte {end}, {stop - start} bytes from {start} were asked for"
            )
        return content

    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        """A small file whole. Raises as `read`, and for one that is larger than `max_bytes`."""
        size = self.identity(name).size
        if size > max_bytes:
            raise StorageError(f"{self.where / name} has {size} bytes, at most {max_bytes} are accepted")
        return b"".join(self._pieces(name, 0, None, None))

    def open_stream(self, name: str, *, stopped: Stop | None = None) -> io.BufferedReader:
        """A file from its start, connected again where the connection broke; the caller closes it."""
        return io.BufferedReader(_ObjectStream(self._pieces(name, 0, None, stopped)), 1 << 20)

    def names(self) -> list[str]:
        """Names of the files in it, sorted.

        Raises:
            StorageError: the store cannot list, as plain web servers cannot.
        """
        try:
            return self._patiently("", self._backend.names)
        except StorageError as error:
            raise StorageError(f"{error}; where a folder cannot be listed, name its tars") from None

    def write(self, name: str, content: bytes) -> None:
        """Store a file, whole or not at all."""
        self._patiently(name, lambda: self._backend.put(name, content))
        self._seen.pop(name, None)

    def _pieces(
        self, name: str, start: int, stop: int | None, stopped: Stop | None
    ) -> Generator[memoryview, None, None]:
        """The bytes in pieces. After a break goes on at the offset; where a server has no ranges, from the start."""
        offset = start
        failures, mark = 0, start
        while True:
            try:
                if failures > 1 and stop is None:  # was its size a lie?
                    self._check(name, self._backend.head(name))
                    if offset == self._seen[name].size:
                        return
                identity, pieces = self._answer(name, offset, stop)
                end = identity.size if stop is None else min(stop, identity.size)
                for piece in pieces:
                    if offset + len(piece) > end:
                        raise Transient(f"more than the {end - offset} bytes from {offset} on came")
                    offset += len(piece)
                    self.traffic.add(bytes=len(piece))
                    yield memoryview(piece)
                    _give_up_if(stopped)
                if offset == end:
                    return
                raise Transient(f"the answer ended at byte {offset} of {end}")
            except Transient as error:
                if offset == stop:  # all came that was asked for, though more was promised
                    return
                if offset - mark >= _PROGRESS:
                    failures, mark = 0, offset
                failures += 1
                self._wait(name, failures, error, stopped)

    def _answer(self, name: str, offset: int, stop: int | None) -> Answer:
        self.traffic.add(requests=1)
        try:
            answer = self._backend.get(name, offset, stop)
            self._check(name, answer.identity)
            return answer
        except NoRanges:
            if stop is not None:
                raise StorageError(
                    f"{self.where / name}: this server cannot give a part of a file (no HTTP ranges); "
                    "give a cache folder, into which shards are fetched whole"
                ) from None
        answer = self._backend.get(name, 0, None)
        self._check(name, answer.identity)
        return Answer(answer.identity, _beyond(answer, offset))

    def _check(self, name: str, identity: Identity) -> None:
        seen = self._seen.setdefault(name, identity)
        if seen == identity:
            return
        if seen.tag == identity.tag and seen.tag.endswith('"'):  # an etag names the content, so one size was a lie
            self._seen[name] = identity
            raise Transient(f"the answer states {identity.size} bytes, one before it stated {seen.size}")
        raise StorageError(
            f"{self.where / name} was replaced while it was in use: it had {seen.size} bytes and tag {seen.tag}, "
            f"now {identity.size} and {identity.tag}"
        )

    def _patiently(self, name: str, attempt: Callable[[], _T]) -> _T:
        failures = 0
        while True:
            self.traffic.add(requests=1)
            try:
                return attempt()
            except Transient as error:
                failures += 1
                self._wait(name, failures, error, None)

    def _wait(self, name: str, failures: int, error: Transient, stopped: Stop | None) -> None:
        """Before the next attempt.

        Raises:
            StorageError: that was the last.
        """
        _give_up_if(stopped)
        limits = retries.PATIENCE
        if failures >= limits.attempts:
            raise StorageError(
                f"{self.where / name}: given up after {failures} attempts; the last one: {error}"
            ) from None
        self.traffic.add(retries=1)
        if stopped is None:
            time.sleep(limits.wait_s(failures))
            return
        try:
            stopped.result(limits.wait_s(failures))
        except FutureTimeout:
            return
        _give_up_if(stopped)

    def __truediv__(self, name: str) -> "RemoteFile":
        return RemoteFile(self, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "traffic": Traffic()}

    def __repr__(self) -> str:
        return f"RemoteFolder({self.where})"


class RemoteFile(NamedTuple):
    """A file of a folder in a store."""

    folder: RemoteFolder
    name: str

    def __str__(self) -> str:
        return str(self.folder.where / self.name)


def _backend(where: Prefix | Path) -> Backend:
    if isinstance(where, Path):
        return LocalBackend(where)
    scheme = scheme_of(where.url)
    if scheme == "pipe":
        raise ConfigError("pipe: runs a shell command, which a list of shards must not do; download the shards instead")
    return ObjectBackend(where) if scheme in SCHEMES else OtherBackend(where)


def _beyond(answer: Answer, offset: int) -> Iterator[memoryview]:
    """What an answer from the start holds from an offset on."""
    for piece in answer.pieces:
        if offset < len(piece):
            yield memoryview(piece)[offset:]
        offset = max(0, offset - len(piece))


def _give_up_if(stopped: Stop | None) -> None:
    if stopped is not None and stopped.done():
        raise StorageError("reading was stopped")


class _ObjectStream(io.RawIOBase):
    def __init__(self, pieces: _Pieces):
        self._pieces = pieces
        self._held = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, but for the last time."""
        wanted, filled = memoryview(buffer).cast("B"), 0
        while filled < len(wanted):
            if not self._held:
                self._held = next(self._pieces, memoryview(b""))
                if not self._held:
                    break
            part = self._held[: len(wanted) - filled]
            wanted[filled : filled + len(part)] = part
            self._held = self._held[len(part) :]
            filled += len(part)
        self._position += filled
        return filled

    def close(self) -> None:
        self._pieces.close()
        super().close()
