"""Requests to stores that fail once, one after the other, through a replaced store backend."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar, get_args
from unittest.mock import patch

from mps_shards.errors import StorageError
from mps_shards.storage import store_folder
from mps_shards.storage.folder import AccessDenied, Identity, Stop
from mps_shards.storage.store_backend import Answer, StoreBackend, Transient
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import Prefix

__all__ = ["HOWS", "StoreFailure", "StoreHow", "StoreRequest", "failing_store"]

# "error" raises before anything happened, "lost" after it happened; "denied" is a 403, which is not repeated; "short"
# cuts off a response and "reset" breaks the connection within it; "kill" ends the process after the request.
StoreHow = Literal["error", "denied", "lost", "short", "reset", "kill"]
HOWS: tuple[StoreHow, ...] = get_args(StoreHow)

_T = TypeVar("_T")

_CHANGES = ("put", "create", "upload", "delete")


class StoreRequest(NamedTuple):
    """One request: the method of the backend, and the file or folder."""

    method: str
    name: str

    def can_fail(self, how: StoreHow) -> bool:
        """Whether this failure differs from the others: a lost response to a read is the same as a failed read."""
        return how in ("error", "denied") or (
            self.method == "get" if how in ("short", "reset") else self.method in _CHANGES
        )

    def __str__(self) -> str:
        return f"{self.method} {self.name}"


@dataclass
class StoreFailure:
    """The failure of one request.

    Args:
        at: Number of the request, from 0, of the requests that can fail in this way; None only records requests.
    """

    at: int | None = None
    how: StoreHow = "error"
    requests: list[StoreRequest] = field(default_factory=list)
    _lock: Any = field(default_factory=Lock)

    def is_due(self, request: StoreRequest) -> bool:
        """Count a request, and return whether it must fail."""
        if not request.can_fail(self.how):
            return False
        with self._lock:
            self.requests.append(request)
            return len(self.requests) - 1 == self.at


@contextmanager
def failing_store(failure: StoreFailure) -> Iterator[StoreFailure]:
    """Let one request of the folders that are opened in this block fail."""
    real = store_folder._backend

    def failing_backend(prefix: Prefix, options: StoreOptions) -> StoreBackend:
        return _Failing(real(prefix, options), prefix, failure)

    with patch.object(store_folder, "_backend", failing_backend):
        yield failure


class _Failing:
    """A store backend one of whose requests fails."""

    def __init__(self, real: StoreBackend, prefix: Prefix, failure: StoreFailure):
        self._real, self._prefix, self._failure = real, prefix, failure
        self.tells_identity = real.tells_identity

    def head(self, name: str) -> Identity:
        return self._made("head", name, lambda: self._real.head(name))

    def listed(self) -> tuple[list[str], list[str]]:
        return self._made("listed", "", self._real.listed)

    def below(self, folder: str) -> dict[str, Identity]:
        return self._made("below", folder, lambda: self._real.below(folder))

    def put(self, name: str, content: bytes) -> None:
        self._made("put", name, lambda: self._real.put(name, content))

    def create(self, name: str, content: bytes) -> None:
        self._made("create", name, lambda: self._real.create(name, content))

    def upload(self, name: str, content: BinaryIO) -> None:
        self._made("upload", name, lambda: self._real.upload(name, content))

    def delete(self, name: str) -> None:
        self._made("delete", name, lambda: self._real.delete(name))

    def get(self, name: str, start: int, stop: int | None, stopped: Stop | None = None) -> Answer:
        if not self._failure.is_due(self._request("get", name)):
            return self._real.get(name, start, stop, stopped)
        self._fail_before(name)
        identity, pieces = self._real.get(name, start, stop, stopped)
        return Answer(identity, self._half(b"".join(pieces)))

    def _half(self, content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        if self._failure.how == "reset":
            raise Transient("the connection was reset")

    def _made(self, method: str, name: str, send: Callable[[], _T]) -> _T:
        if not self._failure.is_due(self._request(method, name)):
            return send()
        self._fail_before(name)
        with suppress(StorageError):  # an answer that refuses the request gets lost as others do
            send()
        if self._failure.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Transient("the answer got lost")

    def _fail_before(self, name: str) -> None:
        if self._failure.how == "error":
            raise Transient("the connection was refused")
        if self._failure.how == "denied":
            raise AccessDenied(f"{self._prefix / name}: access denied (403 Forbidden)")

    def _request(self, method: str, name: str) -> StoreRequest:
        return StoreRequest(method, str(self._prefix / name) if name else str(self._prefix))
