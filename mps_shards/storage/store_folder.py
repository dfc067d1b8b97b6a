"""A folder in a store, written to with patience, while others may write there, too."""

import contextlib
from typing import BinaryIO

from mps_shards.errors import StorageError
from mps_shards.storage.backend import FileMissing, FileThere, Identity, NoConditions, Store
from mps_shards.storage.remote_folder import RemoteFolder
from mps_shards.storage.urls import Prefix

__all__ = ["StoreFolder"]


class StoreFolder(RemoteFolder):
    """Files below a prefix, by names that may hold slashes. From any thread, and safe to pickle and to fork."""

    where: Prefix
    _backend: Store  # which every prefix has

    def __init__(self, where: Prefix):
        super().__init__(where)

    def read_now(self, name: str, *, max_bytes: int) -> bytes | None:
        """A small file as it is now, whatever it was before; None where there is none."""
        self._seen.pop(name, None)
        try:
            return self.read_file(name, max_bytes=max_bytes)
        except FileMissing:
            return None

    def identity_now(self, name: str) -> Identity | None:
        """Size and etag of a file as it is now; None where there is none."""
        self._seen.pop(name, None)
        try:
            return self.identity(name)
        except FileMissing:
            return None

    def create(self, name: str, content: bytes) -> bool:
        """Store a small file, unless there is one of this name; of several who do so at a time one succeeds.

        Where a store cannot promise that (no ``If-None-Match``), the file is stored after having looked.
        """
        self._seen.pop(name, None)
        try:
            self._patiently(name, lambda: self._backend.create(name, content))
        except FileThere:
            return False
        except NoConditions:
            if self.has(name):
                return False
            self.write(name, content)
        return True

    def upload(self, name: str, content: BinaryIO) -> None:
        """Store what a file holds, however large, whole or not at all.

        Raises:
            StorageError: the store does not take it, or has another size now.
        """

        def attempt() -> None:
            content.seek(0)
            self._backend.upload(name, content)

        self._patiently(name, attempt)
        self._seen.pop(name, None)
        size, stored = content.seek(0, 2), self.identity(name).size
        if stored != size:
            raise StorageError(f"{self.where / name} has {stored} bytes, {size} were written")

    def delete(self, name: str) -> None:
        """Remove a file, if there is one."""
        with contextlib.suppress(FileMissing):
            self._patiently(name, lambda: self._backend.delete(name))
        self._seen.pop(name, None)

    def below(self, folder: str = "") -> dict[str, Identity]:
        """All files in a folder of it and further down, by their names here, as they are now."""
        return self._patiently(folder, lambda: self._backend.below(folder))
