"""The store backend for S3, Google Cloud Storage, Azure and web servers, through obstore.

Credentials and endpoints come from the environment variables that obstore documents (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, …). obstore's own retries are off, except for the parts of an upload: `StoreFolder` counts and
reports each attempt.
"""

import base64
import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from mps_shards.errors import StorageError
from mps_shards.storage.folder import AccessDenied, FileMissing, Identity, Stop
from mps_shards.storage.obstore_runtime import answer_of, obstore_module
from mps_shards.storage.store_advice import advice_for
from mps_shards.storage.store_backend import AlreadyExists, Answer, NoConditions, NoRanges, StoreBackend, Transient
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import Prefix, without_secrets

__all__ = ["SCHEMES", "ObjectBackend"]

SCHEMES = frozenset({"abfs", "abfss", "adl", "az", "azure", "gs", "http", "https", "s3", "s3a"})

_PIECE = 1 << 20
_PART = 8 << 20  # bytes per part of an upload; a store accepts 10,000 parts
_PARTS_AT_A_TIME = 4
_PART_RETRIES = 3  # retries by obstore, since one lost part would otherwise lose all parts before it
_Use: TypeAlias = Literal["asking", "streaming", "uploading"]
# Errors that no further attempt changes: 4xx except "timed out" and "too many requests", and "not implemented".
_LASTING = re.compile(r"status code: (301|4(?!08|29)\d\d|501)|must be specified")


class ObjectBackend(StoreBackend):
    """A prefix in a store that obstore supports. Each process creates its own client at first use."""

    tells_identity = True

    def __init__(self, prefix: Prefix, options: StoreOptions):
        self._prefix, self._options = prefix, options
        self._stores: dict[_Use, Any] = {}
        self._pid = os.getpid()

    def head(self, name: str) -> Identity:
        with _translated(self._prefix, name):
            return _identity(self._ask("asking", "head", name))

    def get(self, name: str, start: int, stop: int | None, stopped: Stop | None = None) -> Answer:
        options: Any = None
        if stop is not None:
            options = {"range": (start, stop)}
        elif start:
            options = {"range": {"offset": start}}
        with _translated(self._prefix, name):
            use: _Use = "asking" if stop is not None else "streaming"
            found = self._ask(use, "get", name, options=options, stopped=stopped)
        if found.range[0] != start:
            raise Transient(f"bytes from {start} on were requested, but the response begins at byte {found.range[0]}")
        return Answer(_identity(found.meta), self._pieces(found, name, stopped, whole=stop is not None))

    def _pieces(self, found: Any, name: str, stopped: Stop | None, *, whole: bool) -> Iterator[memoryview]:
        if whole:  # obstore gathers the bytes without the GIL and without a copy
            with _translated(self._prefix, name):
                content = answer_of(found.bytes_async, timeout_s=self._options.request_timeout_s, stopped=stopped)
            yield memoryview(content)
            return
        pieces = found.stream(min_chunk_size=_PIECE)
        while True:
            try:
                with _translated(self._prefix, name):
                    piece = answer_of(pieces.__anext__, stopped=stopped)  # the client has its own read time-out
            except StopAsyncIteration:
                return
            yield memoryview(piece)

    def listed(self) -> tuple[list[str], list[str]]:
        with _translated(self._prefix, ""):
            found = self._ask("asking", "list_with_delimiter")
        folders = sorted(str(prefix).strip("/") for prefix in found["common_prefixes"])
        return sorted(str(meta["path"]) for meta in found["objects"]), folders

    def put(self, name: str, content: bytes) -> None:
        with _translated(self._prefix, name):
            self._ask("uploading", "put", name, content, use_multipart=False)

    def create(self, name: str, content: bytes) -> None:
        kinds = obstore_module().exceptions
        with _translated(self._prefix, name):
            try:
                self._ask("uploading", "put", name, content, mode="create", use_multipart=False)
            except kinds.BaseError as error:
                if isinstance(error, kinds.NotSupportedError) or "status code: 501" in str(error):
                    raise NoConditions from None
                raise

    def upload(self, name: str, content: BinaryIO) -> None:
        with _translated(self._prefix, name):
            self._ask("uploading", "put", name, content, chunk_size=_PART, max_concurrency=_PARTS_AT_A_TIME)

    def delete(self, name: str) -> None:
        with _translated(self._prefix, name):
            self._ask("asking", "delete", name)

    def below(self, folder: str) -> dict[str, Identity]:
        with _translated(self._prefix, folder):
            pages = obstore_module().list(self._store("asking"), prefix=folder or None, chunk_size=1000)
            listed = answer_of(pages.collect_async)
            return {str(meta["path"]): _identity(meta) for meta in listed}

    def _ask(self, use: _Use, what: str, *arguments: Any, stopped: Stop | None = None, **options: Any) -> Any:
        store, function = self._store(use), getattr(obstore_module(), f"{what}_async")
        # the client's own time-outs end earlier, but not its search for credentials, which can take minutes
        timeout_s = None if use == "uploading" else self._options.read_timeout_s + self._options.connect_timeout_s
        return answer_of(lambda: function(store, *arguments, **options), timeout_s=timeout_s, stopped=stopped)

    def _store(self, use: _Use) -> Any:
        if self._pid != os.getpid():
            self._stores, self._pid = {}, os.getpid()
        found = self._stores.get(use)
        if found is None:
            found = self._stores[use] = _client(self._prefix.url, use, self._options)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_prefix": self._prefix, "_options": self._options, "_stores": {}, "_pid": os.getpid()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _pid=os.getpid())


def _client(url: str, use: _Use, limits: StoreOptions) -> Any:
    options: dict[str, Any] = {
        "allow_http": True,  # plain HTTP is used only for addresses that begin with http:
        "connect_timeout": _milliseconds(limits.connect_timeout_s),
        # a store does not answer before it has received a whole part
        "read_timeout": _milliseconds(limits.request_timeout_s if use == "uploading" else limits.read_timeout_s),
        # a shard may be streamed for hours, as slowly as it is consumed
        "timeout": "1day" if use == "streaming" else _milliseconds(limits.request_timeout_s),
    }
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if user and parts.scheme in ("http", "https"):
        options["default_headers"] = {"Authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"}
        url = urlunsplit(parts._replace(netloc=host))
    try:
        retry_config = {"max_retries": _PART_RETRIES if use == "uploading" else 0}
        return obstore_module().store.from_url(url, client_options=options, retry_config=retry_config)
    except Exception as error:  # obstore raises errors of its own, ValueError and others
        reason = advice_for(url, str(error)) or without_secrets(str(error)).partition("\n")[0]
        raise StorageError(f"{Prefix(url)} cannot be opened: {reason}") from None


def _milliseconds(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _identity(meta: Any) -> Identity:
    return Identity(int(meta["size"]), str(meta["e_tag"] or meta["last_modified"]))


_OURS = (StorageError, Transient, NoRanges, NoConditions, StopAsyncIteration)


@contextlib.contextmanager
def _translated(prefix: Prefix, name: str) -> Iterator[None]:
    """Translate obstore's errors into ours, without a cause, because obstore's texts contain URLs with secrets."""
    try:
        yield
    except _OURS:
        raise
    except Exception as error:
        # obstore keeps an error until its next call, and the traceback of an error keeps the callers' files open
        error.__traceback__ = None
        advice = advice_for(prefix.url, str(error))
        kinds, reason, where = obstore_module().exceptions, _reason(str(error)), prefix / name
        if isinstance(error, kinds.NotFoundError | FileNotFoundError):
            raise FileMissing(f"{where}: {advice or 'no such object'}") from None
        if isinstance(error, kinds.AlreadyExistsError):
            raise AlreadyExists(f"{where} exists already") from None
        if isinstance(error, kinds.NotSupportedError) and "ange request" in reason:
            raise NoRanges from None
        if isinstance(error, kinds.PermissionDeniedError | kinds.UnauthenticatedError | PermissionError):
            raise AccessDenied(f"{where}: access denied ({reason}){f'; {advice}' if advice else ''}") from None
        message = f"{reason}; {advice}" if advice else reason
        if isinstance(error, kinds.GenericError) and not _LASTING.search(reason):
            raise Transient(message) from None
        raise StorageError(f"{where}: {message}") from None


def _reason(text: str) -> str:
    """Return obstore's message in one line, without the address, and with the innermost cause."""
    first, _, details = text.partition("\n")
    outer = first.rpartition(" - ")[2] if "Error performing" in first else first
    inner = re.findall(r"message: \"(.*?)\"|kind: (TimedOut|Timeout)|(IncompleteBody)", details)
    causes = ["".join(found) for found in inner]
    return without_secrets(f"{outer.partition('<')[0].strip(': ')}{f': {causes[-1]}' if causes else ''}")[:300]
