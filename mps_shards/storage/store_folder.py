"""Folders in stores: failed requests are repeated, and two versions of a file are never mixed."""

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.folder import AccessDenied, FileMissing, Identity, Stop, Traffic, WritableFolder
from mps_shards.storage.fsspec_backend import FsspecBackend
from mps_shards.storage.local_disk import scratch
from mps_shards.storage.object_store import SCHEMES, ObjectBackend
from mps_shards.storage.obstore_runtime import POLL_S
from mps_shards.storage.ordered_map import raise_if_stopped
from mps_shards.storage.store_backend import AlreadyExists, Answer, NoConditions, NoRanges, StoreBackend, Transient
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import Prefix, scheme_of

__all__ = ["StoreFolder"]

_T = TypeVar("_T")
_Pieces: TypeAlias = Generator[memoryview, None, None]

_PROGRESS = 64 << 10  # bytes; an attempt that breaks off before this counts as an attempt without progress

_COPIED = 1 << 20  # bytes that are copied at a time


class StoreFolder(WritableFolder):
    """A folder in a store.

    The first response about a file fixes the file's identity. A later response with another identity is an error.
    """

    waits = True

    def __init__(self, prefix: Prefix, options: StoreOptions | None = None):
        self.prefix, self.address = prefix, prefix.url
        self.traffic = Traffic()
        self._options = options or StoreOptions()
        self._backend = _backend(prefix, self._options)
        self.tells_identity = self._backend.tells_identity
        self._seen: dict[str, Identity] = {}

    def folder(self, name: str) -> "StoreFolder":
        return StoreFolder(self.prefix.inside(name), self._options)

    def check(self) -> None:
        """Accept any prefix: a store has no folders that could be missing."""

    def names(self) -> list[str]:
        return self._listed()[0]

    def subfolders(self) -> list[str]:
        return self._listed()[1]

    def _listed(self) -> tuple[list[str], list[str]]:
        try:
            return self._repeated("", self._backend.listed)
        except StorageError as error:
            raise StorageError(f"{error}; if the folder cannot be listed, name its tars") from None

    def below(self, name: str = "") -> dict[str, Identity]:
        return self._repeated(name, lambda: self._backend.below(name))

    def identity(self, name: str) -> Identity:
        if name not in self._seen:
            self._check_identity(name, self._repeated(name, lambda: self._backend.head(name)))
        return self._seen[name]

    def has(self, name: str) -> bool:
        try:
            self.identity(name)
        except FileMissing:
            return False
        except AccessDenied:
            if self._can_list():  # then Amazon S3 denies only what exists
                raise
            return False
        return True

    def _can_list(self) -> bool:
        try:
            self._backend.listed()
        except (StorageError, Transient):
            return False
        return True

    def seen(self, name: str) -> Identity | None:
        return self._seen.get(name)

    def forget(self, name: str) -> None:
        self._seen.pop(name, None)

    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> memoryview:
        pieces = list(self._pieces(name, start, stop, stopped))
        content = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        if len(content) != stop - start:
            end = start + len(content)
            raise StorageError(
                f"{self / name} ends at byte {end}, but {stop - start} bytes from {start} were requested"
            )
        return content

    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        size = self.identity(name).size
        if size > max_bytes:
            raise StorageError(f"{self / name} has {size} bytes, but at most {max_bytes} are accepted")
        return b"".join(self._pieces(name, 0, None, None))

    def open_stream(self, name: str) -> io.BufferedReader:
        """Open a file for sequential reading from its start. A broken connection is made again."""
        return io.BufferedReader(_ObjectStream(self._pieces(name, 0, None, None)), 1 << 20)

    def check_writable(self) -> None:
        if scheme_of(self.prefix.url) in ("http", "https"):
            raise ConfigError(f"{self}: web servers cannot be written to")

    def write(self, name: str, content: bytes) -> None:
        self._repeated(name, lambda: self._backend.put(name, content))
        self.forget(name)

    def create(self, name: str, content: bytes) -> bool:
        """Store a small file unless its name exists.

        If the store does not support ``If-None-Match``, the name is looked up before the file is stored.
        """
        self.forget(name)
        try:
            self._repeated(name, lambda: self._backend.create(name, content))
        except AlreadyExists:
            return False
        except NoConditions:
            if self.has(name):
                return False
            self.write(name, content)
        return True

    @contextlib.contextmanager
    def writing(self, name: str, *, scratch_folder: Path | None = None) -> Iterator[BinaryIO]:
        """Open a file on the local disk, and upload it when the block ends without an error."""
        with scratch(scratch_folder) as file:
            yield file
            self.upload(name, file)

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store the content of a file of any size, completely or not at all.

        Raises:
            StorageError: The store refuses the file, or reports another size afterwards.
        """

        def attempt() -> None:
            content.seek(0)
            self._backend.upload(name, content)

        self._repeated(name, attempt, give_up=False)  # the progress within a part is not known
        self.forget(name)
        size, stored = content.seek(0, 2), self.identity(name).size
        if stored != size:
            raise StorageError(f"{self / name} has {stored} bytes, but {size} were written")

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileMissing):
            self._repeated(name, lambda: self._backend.delete(name))
        self.forget(name)

    def move(self, name: str, to: str) -> None:
        self.forget(name)
        with self.writing(to) as file, self.open_stream(name) as stream:
            shutil.copyfileobj(stream, file, _COPIED)
        self.delete(name)

    def delete_below(self, name: str) -> None:
        for file in self.below(name):
            self.delete(file)

    def _pieces(self, name: str, start: int, stop: int | None, stopped: Stop | None) -> _Pieces:
        """Yield the bytes of a file. After a break, reading continues at the offset, or at the start without ranges."""
        offset = start
        streak, mark = _Failures(), start
        while True:
            try:
                streak.begin_attempt()
                if streak.count > 1 and stop is None:  # the stated size may be wrong
                    self._check_identity(name, self._backend.head(name))
                    if offset == self._seen[name].size:
                        return
                identity, pieces = self._answer(name, offset, stop, stopped)
                end = identity.size if stop is None else min(stop, identity.size)
                for piece in pieces:
                    if offset + len(piece) > end:
                        raise Transient(f"more than the {end - offset} requested bytes from byte {offset} arrived")
                    offset += len(piece)
                    self.traffic.add(bytes=len(piece))
                    yield memoryview(piece)
                    _give_up_if(stopped)
                    streak.begin_attempt()
                if offset == end:
                    return
                raise Transient(f"the response ended at byte {offset} of {end}")
            except Transient as error:
                if offset == stop:  # the requested bytes have arrived, although the server announced more
                    return
                if offset - mark >= _PROGRESS:
                    mark = offset
                    streak.forget()
                self._wait(name, streak, error, stopped)

    def _answer(self, name: str, offset: int, stop: int | None, stopped: Stop | None) -> Answer:
        self.traffic.add(requests=1)
        try:
            answer = self._backend.get(name, offset, stop, stopped)
            self._check_identity(name, answer.identity)
            return answer
        except NoRanges:
            if stop is not None:
                raise StorageError(
                    f"{self / name}: this server cannot send a part of a file (no HTTP ranges); "
                    "set a cache folder, so that whole shards are fetched"
                ) from None
        answer = self._backend.get(name, 0, None, stopped)
        self._check_identity(name, answer.identity)
        return Answer(answer.identity, _beyond(answer, offset))

    def _check_identity(self, name: str, identity: Identity) -> None:
        seen = self._seen.setdefault(name, identity)
        if seen == identity:
            return
        if seen.tag == identity.tag and seen.tag.endswith('"'):  # equal etags mean equal content: one size is wrong
            self._seen[name] = identity
            raise Transient(f"a response states {identity.size} bytes, but an earlier one stated {seen.size}")
        raise StorageError(
            f"{self / name} was replaced while it was in use: it had {seen.size} bytes and tag {seen.tag}, "
            f"and now has {identity.size} bytes and tag {identity.tag}"
        )

    def _repeated(self, name: str, attempt: Callable[[], _T], *, give_up: bool = True) -> _T:
        streak = _Failures()
        while True:
            self.traffic.add(requests=1)
            try:
                streak.begin_attempt()
                return attempt()
            except Transient as error:
                self._wait(name, streak, error, None, give_up=give_up)

    def _wait(
        self, name: str, streak: "_Failures", error: Transient, stopped: Stop | None, *, give_up: bool = True
    ) -> None:
        """Wait before the next attempt.

        Raises:
            StorageError: the last attempt has failed.
        """
        _give_up_if(stopped)
        streak.add()
        wait_s = self._options.wait_s(streak.count)
        late = give_up and streak.lost_s + wait_s + streak.last_s > self._options.give_up_s
        if streak.count >= self._options.attempts or late:
            attempts = f"{streak.count} attempt{'s' if streak.count > 1 else ''}"
            raise StorageError(f"{self / name}: gave up after {attempts}; last error: {error}") from None
        self.traffic.add(retries=1)
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, POLL_S))
            raise_if_stopped()
            _give_up_if(stopped)

    def __str__(self) -> str:
        return str(self.prefix)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "traffic": Traffic()}


def _backend(prefix: Prefix, options: StoreOptions) -> StoreBackend:
    scheme = scheme_of(prefix.url)
    if scheme == "pipe":
        raise ConfigError("pipe: runs a shell command, which a list of shards must not do; download the shards instead")
    return ObjectBackend(prefix, options) if scheme in SCHEMES else FsspecBackend(prefix)


class _Failures:
    """Counts failed attempts in a row without progress, and the seconds that they took."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.count, self.lost_s, self.last_s = 0, 0.0, 0.0
        self._since: float | None = None

    def begin_attempt(self) -> None:
        """Record that a request is sent, or that more of its answer is waited for."""
        self._began = time.monotonic()

    def add(self) -> None:
        """Record that the current attempt has failed."""
        now = time.monotonic()
        self._since = self._began if self._since is None else self._since
        self.count, self.last_s, self.lost_s = self.count + 1, now - self._began, now - self._since


def _beyond(answer: Answer, offset: int) -> Iterator[memoryview]:
    """Yield the bytes from an offset on, out of an answer that begins at byte 0."""
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
        """Fill the buffer; only the last call returns fewer bytes."""
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
