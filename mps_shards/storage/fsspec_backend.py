"""The store backend for file systems that fsspec knows and obstore does not, such as ``hf://``; needs `fsspec`.

fsspec does not report which version of an object it reads, so the index verifies contents from these file systems.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.folder import AccessDenied, FileMissing, Identity, Stop
from mps_shards.storage.store_backend import AlreadyExists, Answer, NoConditions, StoreBackend, Transient
from mps_shards.storage.urls import Prefix, scheme_of, without_secrets

__all__ = ["FsspecBackend"]

_PIECE = 8 << 20


class FsspecBackend(StoreBackend):
    """A folder of an fsspec file system."""

    tells_identity = False

    def __init__(self, prefix: Prefix):
        self._prefix = prefix
        scheme = scheme_of(prefix.url)
        try:
            from fsspec.registry import known_implementations, registry
        except ImportError as error:
            raise ConfigError(f"{prefix}: {scheme}: needs fsspec: run pip install 'mps-shards[fsspec]'") from error
        if scheme not in {*known_implementations, *registry}:
            raise ConfigError(f"{prefix}: neither obstore nor fsspec supports {scheme}:")

    def _open(self) -> tuple[Any, str]:
        """Return the file system and the folder's path in it. fsspec keeps one instance per process and thread."""
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self._prefix.url)  # type: ignore[no-any-return]
        except ImportError as error:
            raise ConfigError(f"{self._prefix}: {error}") from error

    def head(self, name: str) -> Identity:
        system, folder = self._open()
        with _translated(self._prefix / name):
            found = system.info(f"{folder}/{name}")
        return _identity(found)

    def get(self, name: str, start: int, stop: int | None, stopped: Stop | None = None) -> Answer:
        identity = self.head(name)
        return Answer(identity, self._pieces(name, start, identity.size if stop is None else min(stop, identity.size)))

    def _pieces(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        system, folder = self._open()
        while start < stop:
            end = min(start + _PIECE, stop)
            with _translated(self._prefix / name):
                piece: bytes = system.cat_file(f"{folder}/{name}", start=start, end=end)
            if not piece:
                return
            start += len(piece)
            yield piece

    def listed(self) -> tuple[list[str], list[str]]:
        system, folder = self._open()
        with _translated(self._prefix / ""):
            listed = system.ls(folder, detail=True)
        names: dict[str, list[str]] = {"file": [], "directory": []}
        for entry in listed:
            names.setdefault(entry["type"], []).append(entry["name"].rstrip("/").rpartition("/")[2])
        return sorted(names["file"]), sorted(names["directory"])

    def put(self, name: str, content: bytes) -> None:
        system, path = self._prepare_path(name)
        with _translated(self._prefix / name):
            system.pipe_file(path, content)

    def create(self, name: str, content: bytes) -> None:
        system, path = self._prepare_path(name)
        with _translated(self._prefix / name):
            try:
                system.pipe_file(path, content, mode="create")
            except FileExistsError:
                raise AlreadyExists(f"{self._prefix / name} exists already") from None
            except (NotImplementedError, TypeError):  # fsspec's file systems accept different arguments
                raise NoConditions from None

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store a file's content, which is held in memory: only fsspec's `pipe_file` stores all or nothing."""
        system, path = self._prepare_path(name)
        with _translated(self._prefix / name):
            system.pipe_file(path, content.read())

    def delete(self, name: str) -> None:
        system, folder = self._open()
        with _translated(self._prefix / name):
            system.rm_file(f"{folder}/{name}")

    def below(self, folder: str) -> dict[str, Identity]:
        system, root = self._open()
        with _translated(self._prefix / folder):
            system.invalidate_cache()  # other processes may have written
            try:
                found = system.find(f"{root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:  # some file systems raise this for an empty folder
                return {}
        start = len(root.rstrip("/")) + 1
        return {path[start:]: _identity(about) for path, about in found.items()}

    def _prepare_path(self, name: str) -> tuple[Any, str]:
        """Return the file system and the path of a file, after creating the file's folder if the system has folders."""
        system, folder = self._open()
        path = f"{folder}/{name}"
        with _translated(self._prefix / name):
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
        return system, path


def _identity(about: dict[str, Any]) -> Identity:
    tags = (about.get(key) for key in ("ETag", "etag", "blob_id", "mtime", "created", "last_modified"))
    return Identity(int(about["size"]), next((str(tag) for tag in tags if tag), ""))


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Translate errors of file systems into ours, without a cause, because their texts may contain secrets."""
    try:
        yield
    except (AlreadyExists, NoConditions):
        raise
    except Exception as error:
        reason = without_secrets(f"{type(error).__name__}: {error}")[:300]
        if isinstance(error, NotImplementedError):
            raise StorageError(f"{where}: this file system does not support the operation ({reason})") from None
        if isinstance(error, FileNotFoundError):
            raise FileMissing(f"{where}: no such file") from None
        if isinstance(error, PermissionError):
            raise AccessDenied(f"{where}: access denied ({reason})") from None
        raise Transient(reason) from None
