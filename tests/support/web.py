"""A web server for a folder, with or without byte ranges, that can simulate failures of networks and servers."""

import contextlib
import email.utils
import hashlib
import http.server
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Failure of a response: a status, or the change to the body.
BROKEN_BODIES = ("dropped", "reset", "too short", "too long", "stalled")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that arrived."""

    method: str
    name: str
    span: tuple[int, int | None] | None
    headers: dict[str, str] = field(repr=False)


class Web(http.server.ThreadingHTTPServer):
    """Serves the files below a folder.

    Args:
        ranges: support byte ranges; otherwise every response is the whole file.
        fault: function (request, number of earlier requests for the same file) -> status of an error, one of
            BROKEN_BODIES, "trickled", or None for a correct response.
        before: function that is called before each response, in the thread of the request.
        etags: send etags; without them, versions of a file with equal sizes look equal.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        folder: Path,
        *,
        ranges: bool = True,
        fault: Callable[[Asked, int], int | str | None] = lambda asked, number: None,
        before: Callable[[Asked], None] = lambda asked: None,
        etags: bool = True,
    ):
        self.folder, self.ranges, self.fault, self.before, self.etags = folder, ranges, fault, before, etags
        self.asked: list[Asked] = []
        self._numbers: dict[Any, int] = {}
        self._counting = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def of_tars(self) -> list[Asked]:
        """Return the requests for bytes of tars."""
        return [asked for asked in self.asked if asked.method == "GET" and asked.name.endswith(".tar")]

    def count(self, asked: Asked) -> int:
        """Return the number of earlier requests for the same file, from any byte on."""
        with self._counting:
            self.asked.append(asked)
            key = (asked.method, asked.name, asked.span[1] if asked.span else None)
            self._numbers[key] = self._numbers.get(key, -1) + 1
            return self._numbers[key]

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection, which tests do on purpose."""


@contextlib.contextmanager
def web(folder: Path, **options: Any) -> Iterator[Web]:
    """Run a web server for a folder."""
    server = Web(folder, **options)
    with serving(server):
        yield server


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    """Run a server in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each response takes 40 ms
    server: Web

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        name = unquote(urlsplit(self.path).path).strip("/")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        span = (int(found[1]), int(found[2]) + 1 if found[2] else None) if found else None
        asked = Asked(self.command, name, span, {key.lower(): value for key, value in self.headers.items()})
        fault = self.server.fault(asked, self.server.count(asked))
        self.server.before(asked)
        path = self.server.folder / name
        if not path.is_file():
            fault = 404
        if isinstance(fault, int):
            self._head(fault, 0, {})
            return
        content = path.read_bytes()
        headers = {"Last-Modified": email.utils.formatdate(0, usegmt=True)}
        if self.server.etags:
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        status = 200
        if span and self.server.ranges:
            start, stop = span[0], min(span[1] or len(content), len(content))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content, status = content[start:stop], 206
        stated = len(content) + {"too short": -1, "too long": 1}.get(fault or "", 0)
        self._head(status, stated, headers)
        if self.command == "GET":
            self._body(content[:stated], fault)

    def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(key, value)
        self.end_headers()

    def _body(self, content: bytes, fault: int | str | None) -> None:
        half = len(content) // 2
        if fault in ("dropped", "reset", "stalled"):
            self.wfile.write(content[:half])
            if fault == "stalled":
                self.connection.recv(1)  # until the client closes the connection
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif fault == "trickled":
            for start in range(0, len(content), max(1, len(content) // 50)):
                self.wfile.write(content[start : start + max(1, len(content) // 50)])
                self.wfile.flush()
        else:
            self.wfile.write(content)
            self.close_connection = fault == "too long"
