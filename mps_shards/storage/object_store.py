"""Object stores and HTTP through obstore: S3, Google Cloud Storage, Azure, plain servers.

Credentials and endpoints come from the environment, by the names that obstore documents (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL``, …). obstore's own retries are off, but for the parts of
an upload: `StoreFolder` counts and reports each attempt.
"""

import base64
import importlib.machinery
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from mps_shards.errors import StorageError
from mps_shards.storage.folder import AccessDenied, FileMissing, Identity
from mps_shards.storage.store_backend import Answer, FileThere, NoConditions, NoRanges, Transient
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import Prefix, without_secrets

__all__ = ["SCHEMES", "ObjectBackend"]

SCHEMES = frozenset({"abfs", "abfss", "adl", "az", "azure", "gs", "http", "https", "s3", "s3a"})

_PIECE = 1 << 20
_PART = 8 << 20  # of an upload; a store takes 10,000 of them
_PARTS_AT_A_TIME = 4
_PART_RETRIES = 3  # obstore's own: or else one lost part would cost all that was sent before it
_Use: TypeAlias = Literal["asking", "streaming", "uploading"]
# Not worth another attempt: 4xx but for "timed out" and "too many requests", and "not implemented".
_LASTING = re.compile(r"status code: (4(?!08|29)\d\d|501)")


class ObjectBackend:
    """A prefix in a store that obstore knows. Its client is made at first use, by each process for itself."""

    tells_identity = True

    def __init__(self, prefix: Prefix, options: StoreOptions):
        self._prefix, self._options = prefix, options
        self._stores: dict[_Use, Any] = {}
        self._pid = os.getpid()

    def head(self, name: str) -> Identity:
        """See `StoreBackend`."""
        with _Translated(self._prefix, name):
            return _identity(_native().head(self._store("asking"), name))

    def get(self, name: str, start: int, stop: int | None) -> Answer:
        """See `StoreBackend`."""
        options: Any = None
        if stop is not None:
            options = {"range": (start, stop)}
        elif start:
            options = {"range": {"offset": start}}
        with _Translated(self._prefix, name):
            found = _native().get(self._store("asking" if stop is not None else "streaming"), name, options=options)
        if found.range[0] != start:
            raise Transient(f"bytes from {start} on were asked for, the answer begins at {found.range[0]}")
        return Answer(_identity(found.meta), self._pieces(found, name, whole=stop is not None))

    def _pieces(self, found: Any, name: str, *, whole: bool) -> Iterator[memoryview]:
        if whole:  # gathered by obstore, without the GIL and without a copy
            with _Translated(self._prefix, name):
                content = found.bytes()
            yield memoryview(content)
            return
        pieces = iter(found.stream(min_chunk_size=_PIECE))
        while True:
            with _Translated(self._prefix, name):
                piece = next(pieces, None)
            if piece is None:
                return
            yield memoryview(piece)

    def listed(self) -> tuple[list[str], list[str]]:
        """See `StoreBackend`."""
        with _Translated(self._prefix, ""):
            found = _native().list_with_delimiter(self._store("asking"))
        folders = sorted(str(prefix).strip("/") for prefix in found["common_prefixes"])
        return sorted(str(meta["path"]) for meta in found["objects"]), folders

    def put(self, name: str, content: bytes) -> None:
        """See `StoreBackend`."""
        with _Translated(self._prefix, name):
            _native().put(self._store("streaming"), name, content)

    def create(self, name: str, content: bytes) -> None:
        """See `StoreBackend`."""
        native = _native()
        with _Translated(self._prefix, name):
            try:
                native.put(self._store("uploading"), name, content, mode="create", use_multipart=False)
            except native.exceptions.BaseError as error:
                if isinstance(error, native.exceptions.NotSupportedError) or "status code: 501" in str(error):
                    raise NoConditions from None
                raise

    def upload(self, name: str, content: BinaryIO) -> None:
        """See `StoreBackend`."""
        with _Translated(self._prefix, name):
            store = self._store("uploading")
            _native().put(store, name, content, chunk_size=_PART, max_concurrency=_PARTS_AT_A_TIME)

    def delete(self, name: str) -> None:
        """See `StoreBackend`."""
        with _Translated(self._prefix, name):
            _native().delete(self._store("asking"), name)

    def below(self, folder: str) -> dict[str, Identity]:
        """See `StoreBackend`."""
        with _Translated(self._prefix, folder):
            pages = _native().list(self._store("asking"), prefix=folder or None, chunk_size=1000)
            return {str(meta["path"]): _identity(meta) for page in pages for meta in page}

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
        "allow_http": True,  # a store is asked over plain HTTP only where its address says so
        "connect_timeout": _milliseconds(limits.connect_timeout_s),
        # a store says nothing until it has a part whole
        "read_timeout": _milliseconds(limits.request_timeout_s if use == "uploading" else limits.read_timeout_s),
        # a shard may stream for hours, since it is read as fast as it is used
        "timeout": "1day" if use == "streaming" else _milliseconds(limits.request_timeout_s),
    }
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if user and parts.scheme in ("http", "https"):
        options["default_headers"] = {"Authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"}
        url = urlunsplit(parts._replace(netloc=host))
    try:
        retry_config = {"max_retries": _PART_RETRIES if use == "uploading" else 0}
        return _native()._store.from_url(url, client_options=options, retry_config=retry_config)
    except Exception as error:  # obstore raises its own, ValueError and more
        reason = without_secrets(str(error)).partition("\n")[0]
        raise StorageError(f"{Prefix(url)} cannot be opened: {reason}") from None


def _milliseconds(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _identity(meta: Any) -> Identity:
    return Identity(int(meta["size"]), str(meta["e_tag"] or meta["last_modified"]))


_OURS = (StorageError, Transient, NoRanges, NoConditions)


class _Translated:
    """Turns obstore's errors into ours. Nothing is chained: obstore's texts hold addresses with all their secrets."""

    def __init__(self, prefix: Prefix, name: str):
        self._prefix, self._name = prefix, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, _OURS):
            return
        kinds, reason, where = _native().exceptions, _reason(str(error)), self._prefix / self._name
        if isinstance(error, kinds.NotFoundError | FileNotFoundError):
            raise FileMissing(f"{where}: no such object") from None
        if isinstance(error, kinds.AlreadyExistsError):
            raise FileThere(f"{where}: there is such an object") from None
        if isinstance(error, kinds.NotSupportedError) and "ange request" in reason:
            raise NoRanges from None
        refused = kinds.PermissionDeniedError | kinds.UnauthenticatedError | PermissionError
        if isinstance(error, refused):
            raise AccessDenied(f"{where}: access denied ({reason})") from None
        if isinstance(error, kinds.GenericError) and not _LASTING.search(reason):
            raise Transient(reason) from None
        raise StorageError(f"{where}: {reason}") from None


def _reason(text: str) -> str:
    """obstore's message in one line, without the address, and with the innermost cause."""
    first, _, details = text.partition("\n")
    outer = first.rpartition(" - ")[2] if "Error performing" in first else first
    inner = re.findall(r"message: \"(.*?)\"|kind: (TimedOut|Timeout)|(IncompleteBody)", details)
    causes = ["".join(found) for found in inner]
    return without_secrets(f"{outer.partition('<')[0].strip(': ')}{f': {causes[-1]}' if causes else ''}")[:300]


_loading = Lock()
os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)
_loaded: dict[int, Any] = {}


def _native() -> Any:
    """obstore's native module, for this process.

    Its threads do not survive a fork, and a child that uses them waits for ever (seen with 0.12.1). So the child of a
    process that has used obstore loads a copy of the module under another name, whose threads are its own.
    """
    pid = os.getpid()
    found = _loaded.get(pid)
    if found is None:
        with _loading:
            found = _loaded.get(pid)
            if found is None:
                from obstore import _obstore

                found = _loaded[pid] = _copy_of(_obstore) if _loaded else _obstore
    return found


def _copy_of(module: Any) -> Any:
    original = Path(module.__file__)
    with tempfile.TemporaryDirectory(prefix="mps-shards-") as folder:
        path = shutil.copy(original, folder)
        loader = importlib.machinery.ExtensionFileLoader(module.__name__, path)
        spec = importlib.util.spec_from_file_location(module.__name__, path, loader=loader)
        assert spec is not None
        copy = importlib.util.module_from_spec(spec)
        loader.exec_module(copy)
    return copy
