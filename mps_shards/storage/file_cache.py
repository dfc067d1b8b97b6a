"""Whole files of a store, or of a slow disk, kept on a fast one; shared by all processes of a machine.

Each file has a folder of its own, named by a hash of its full address, size and etag, so that nothing is ever served
for anything else. It is fetched under a lock by one process, checked, and given its name by a rename: a process that is
killed leaves a part that the next one overwrites, and a lock that the system lets go. Where the cache is full, what was
unused longest goes; a file that is deleted while a process reads it stays readable until it is closed.
"""

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mps_shards.errors import ConfigError, ShardError, StorageError
from mps_shards.storage.folder import FileMissing, Folder, Identity, Stop
from mps_shards.storage.local_disk import LocalFolder, replacing
from mps_shards.storage.range_reader import RangeReader

__all__ = ["Cache", "CachedFolder"]

_CONTENT = "content"


class Cache:
    """A folder of fetched files.

    Args:
        folder: made if it is not there; for nothing else.
        max_bytes: of all files; the newest one alone may be larger. None for no bound.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None):
        if max_bytes is not None and max_bytes < 1:
            raise ConfigError(f"cache_bytes must be at least 1, not {max_bytes}")
        self.folder, self._max_bytes = folder.absolute(), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}") from error

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | None, max_bytes: int | None) -> "Cache | None":
        """The cache that a user asked for, if any."""
        if folder is not None:
            return cls(Path(folder), max_bytes=max_bytes)
        if max_bytes is not None:
            raise ConfigError(f"cache_bytes={max_bytes} needs a folder: cache=…")
        return None

    def path(self, source: Folder, name: str, *, sha256: str | None = None) -> Path:
        """Where the file lies, fetched if need be.

        Args:
            sha256: that it must have, if known.

        Raises:
            FileMissing, StorageError: it cannot be fetched or kept.
            ShardError: it has not that digest. Nothing is kept.
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
                if _touched(content):  # by the process that had the lock
                    source.traffic.add(hits=1)
                    return content
                self._make_room(identity.size, keep=entry)
                _fetch(source, name, identity, content, sha256)
            self._make_room(0, keep=entry)  # others fetched at the same time
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"the cache {self.folder}: {error.strerror}") from error
        return content

    def _make_room(self, size: int, *, keep: Path) -> None:
        """Delete what was unused longest, until `size` more bytes fit. One process at a time."""
        if self._max_bytes is None:
            return
        with _locked(self.folder / "lock"):
            held: list[tuple[float, int, Path]] = []
            for content in self.folder.glob(f"*/{_CONTENT}*"):  # parts that a killed process left, too
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
    """Whether it is there; if so, it counts as used now."""
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
            raise StorageError(f"{where} gave {size} bytes, it has {identity.size}")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ShardError(f"{where} has SHA-256 {digest.hexdigest()}, its manifest says {sha256}; it was replaced")


def _delete(content: Path) -> bool:
    """Delete an entry's file, unless its process is still writing it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(content.parent / "lock", wait=False):
        content.unlink()
        return True
    return False


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Alone among all processes and threads, as long as it is held. The system lets go of a dead process's lock."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


class CachedFolder(Folder):
    """A folder whose files are fetched whole into a cache at their first use. See `Folder`; it is only read from.

    Args:
        sha256: Digests that files must have, by name.
    """

    def __init__(self, cache: Cache, source: Folder, sha256: Mapping[str, str] | None = None):
        self._cache, self._source, self._sha256 = cache, source, dict(sha256 or {})
        self.address, self.traffic = source.address, source.traffic
        self.tells_identity = source.tells_identity
        self._paths: dict[str, str] = {}
        self._reader = RangeReader()

    def folder(self, name: str) -> "CachedFolder":
        """See `Folder`."""
        return CachedFolder(self._cache, self._source.folder(name))

    def check(self) -> None:
        """See `Folder`."""
        self._source.check()

    def names(self) -> list[str]:
        """See `Folder`."""
        return self._source.names()

    def subfolders(self) -> list[str]:
        """See `Folder`."""
        return self._source.subfolders()

    def below(self, name: str = "") -> dict[str, Identity]:
        """See `Folder`."""
        return self._source.below(name)

    def identity(self, name: str) -> Identity:
        """See `Folder`."""
        return self._source.identity(name)

    def seen(self, name: str) -> Identity | None:
        """See `Folder`."""
        return self._source.seen(name)

    def forget(self, name: str) -> None:
        """See `Folder`."""
        self._source.forget(name)

    def read(self, name: str, start: int, stop: int, *, stopped: Stop | None = None) -> bytes:
        """See `Folder`."""
        path = self._paths.get(name)
        if path is not None:
            try:
                return self._reader.read(path, start, stop - start)
            except FileMissing:  # the cache was full, and this file was the least recently used
                pass
        path = self._paths[name] = str(self._fetched(name))
        return self._reader.read(path, start, stop - start)

    def open_stream(self, name: str, *, stopped: Stop | None = None) -> io.BufferedReader:
        """See `Folder`."""
        path = self._fetched(name)
        return LocalFolder(path.parent).open_stream(path.name)

    def read_file(self, name: str, *, max_bytes: int) -> bytes:
        """See `Folder`. Small files are not kept: they are read where they are."""
        return self._source.read_file(name, max_bytes=max_bytes)

    def map_file(self, name: str, *, max_bytes: int) -> memoryview:
        """See `Folder`."""
        path = self._fetched(name)
        return LocalFolder(path.parent).map_file(path.name, max_bytes=max_bytes)

    def close(self) -> None:
        """See `Folder`."""
        self._reader.close()
        self._source.close()

    def _fetched(self, name: str) -> Path:
        return self._cache.path(self._source, name, sha256=self._sha256.get(name))

    def __str__(self) -> str:
        return str(self._source)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_paths": {}}
