"""A cache on a fast disk for whole files of a store or a slow disk, shared by all processes of a machine.

Each file has its own folder, named by a hash of the file's full address, size and etag, so a replaced file is never
served. One process fetches a file under a lock, checks it, and renames it to its final name. A killed process leaves
a partial file that the next process overwrites, and the system releases its lock. When the cache is full, the least
recently used files are deleted; a file that is deleted while a process reads it stays readable until it is closed.
"""

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mps_shards.errors import ShardError, StorageError
from mps_shards.storage.folder import FileMissing, Folder, Identity, Stop
from mps_shards.storage.local_disk import LocalFolder, replacing
from mps_shards.storage.range_reader import RangeReader

__all__ = ["Cache", "CachedFolder"]

_CONTENT = "content"


class Cache:
    """A cache of fetched files in a local folder.

    Args:
        folder: folder for the cache alone; it is created if it does not exist.
        max_bytes: limit for the bytes of all files; the newest file alone may exceed the limit. None for no limit.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None):
        self.folder, self._max_bytes = folder.absolute(), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}") from error

    def path(self, source: Folder, name: str, *, sha256: str | None = None) -> Path:
        """Return the local path of a file, which is fetched first if the cache does not hold it.

        Args:
            sha256: SHA-256 that the file must have, if it is known.

        Raises:
            FileMissing, StorageError: the file cannot be fetched or stored.
            ShardError: the file has another SHA-256. It is not kept.
        """
        identity = source.identity(name)
        entry = self.folder / _entry_name(source.address, name, identity, sha256)
        content = entry / _CONTENT
        try:
            if _touched(content):
                source.traffic.add(hits=1)
                return content
            entry.mkdir(exist_ok=True)
            with _locked(entry / "lock"):
                if _touched(content):  # the process that had the lock fetched it
                    source.traffic.add(hits=1)
                    return content
                self._make_room(identity.size, keep=entry)
                _fetch(source, name, identity, content, sha256)
            self._make_room(0, keep=entry)  # other processes may have fetched files at the same time
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"the cache {self.folder} cannot be used: {error.strerror}") from error
        return content

    def _make_room(self, size: int, *, keep: Path) -> None:
        """Delete the least recently used files until `size` more bytes fit. One process at a time does so."""
        if self._max_bytes is None:
            return
        with _locked(self.folder / "lock"):
            held: list[tuple[float, int, Path]] = []
            for content in self.folder.glob(f"*/{_CONTENT}*"):  # includes partial files that a killed process left
                with contextlib.suppress(FileNotFoundError):
                    found = content.stat()
                    held.append((found.st_mtime, found.st_size, content))
            total = sum(bytes_ for _, bytes_, _ in held)
            for _, bytes_, content in sorted(held):
                if total + size <= self._max_bytes:
                    break
                if content.parent != keep and _delete(content):
                    total -= bytes_


def _entry_name(address: str, name: str, identity: Identity, sha256: str | None) -> str:
    return hashlib.sha256(
        "\n".join([address, name, *map(str, identity), sha256 or ""]).encode("utf-8", "surrogateescape")
    ).hexdigest()[:40]


def _touched(content: Path) -> bool:
    """Return whether a file exists; if so, record that it is used now."""
    try:
        os.utime(content)
    except FileNotFoundError:
        return False
    return True


def _fetch(source: Folder, name: str, identity: Identity, content: Path, sha256: str | None) -> None:
    digest, size = hashlib.sha256(), 0
    with replacing(content) as file, source.open_stream(name) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        where = source / name
        if size != identity.size:
            raise StorageError(f"{where} has {identity.size} bytes, but {size} bytes arrived; try again")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ShardError(
                f"{where} has SHA-256 {digest.hexdigest()}, but its manifest says {sha256}; the file was replaced"
            )


def _delete(content: Path) -> bool:
    """Delete the file of a cache entry, unless a process is still writing the file; return whether it was deleted."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(content.parent / "lock", wait=False):
        content.unlink()
        return True
    return False


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock among all processes and threads. The system releases the lock of a dead process."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


class CachedFolder(Folder):
    """A read-only `Folder` whose files are fetched whole into a cache at their first use.

    Args:
        sha256: SHA-256 that files must have, by file name.
    """

    def __init__(self, cache: Cache, source: Folder, sha256: Mapping[str, str] | None = None):
        self._cache, self._source, self._sha256 = cache, source, dict(sha256 or {})
        self.address, self.traffic = source.address, source.traffic
        self.tells_identity = source.tells_identity
        self._paths: dict[str, str] = {}
        self._reader = RangeReader()

    def folder(self, name: str) -> "CachedFolder":
        return CachedFolder(self._cache, self._source.folder(name))

    def check(self) -> None:
        self._source.check()

    def names(self) -> list[str]:
        return self._source.names()

    def subfolders(self) -> list[str]:
        return self._source.subfolders()

    def below(self, name: str = "") -> dict[str, Identity]:
        return self._source.below(name)

    def identity(self, name: str) -> Identity:
        return self._source.identity(name)

    def seen(self, name: str) -> Identity | None:
        return self._source.seen(name)

    def forget(self, name: str) -> None:
        self._source.forget(name)

    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> bytes:
        path = self._paths.get(name)
        if path is not None:
            try:
                return self._reader.read(path, start, stop - start)
            except FileMissing:  # evicted by another process, since the cache was full
                pass
        path = self._paths[name] = str(self._fetched(name))
        return self._reader.read(path, start, stop - start)

    def open_stream(self, name: str) -> io.BufferedReader:
        path = self._fetched(name)
        return LocalFolder(path.parent).open_stream(path.name)

    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a small file from the source. Small files are not cached."""
        return self._source.read_file(name, max_bytes=max_bytes)

    def map_file(self, name: str, *, max_bytes: int) -> memoryview:
        path = self._fetched(name)
        return LocalFolder(path.parent).map_file(path.name, max_bytes=max_bytes)

    def close(self) -> None:
        self._reader.close()
        self._source.close()

    def _fetched(self, name: str) -> Path:
        return self._cache.path(self._source, name, sha256=self._sha256.get(name))

    def __str__(self) -> str:
        return str(self._source)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_paths": {}}
