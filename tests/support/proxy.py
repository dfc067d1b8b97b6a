"""A web server that forwards requests to another server, or answers some of them with an error."""

import contextlib
import http.client
import http.server
import threading
from collections.abc import Callable, Iterator

from tests.support.web import serving

_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length"}


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards requests, one per connection.

    Args:
        fault: function (request such as ``"PUT /bucket/name?query"``, number of earlier ones) -> error status, or
            None to forward the request. A negative status is sent in place of the response to a forwarded request.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str, fault: Callable[[str, int], int | None]):
        self.behind = address.removeprefix("http://")
        self.fault = fault
        self.asked: list[str] = []
        self.failed: list[str] = []
        self.counting = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Passing)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def proxy(address: str, fault: Callable[[str, int], int | None] = lambda asked, number: None) -> Iterator[Proxy]:
    """Run a proxy of the server at an address."""
    server = Proxy(address, fault)
    with serving(server):
        yield server


class _Passing(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        pass

    def _pass(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = f"{self.command} {self.path}"
        with self.server.counting:
            status = self.server.fault(asked, len(self.server.asked))
            self.server.asked.append(asked)
            if status is not None:
                self.server.failed.append(asked)
        if status is not None and status > 0:
            self._refuse(status)
            return
        behind = http.client.HTTPConnection(self.server.behind)
        with contextlib.closing(behind):
            behind.request(self.command, self.path, body=content, headers=dict(self.headers))
            answer = behind.getresponse()
            body = answer.read()
            if status is not None:
                self._refuse(-status)
                return
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in _NOT_PASSED_ON:
                    self.send_header(key, value)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else len(body)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(body)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass
