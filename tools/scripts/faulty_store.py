"""Web server over a folder for the soak test: it answers ranged reads, and lets some of them fail.

python -m tools.scripts.faulty_store FOLDER SEED       prints the address of the server
"""

import http.server
import random
import re
import sys
from pathlib import Path

__all__ = ["FaultyStore"]

_FAILING, _CUT = 0.04, 0.04  # shares of requests that get status 503, and whose response ends halfway
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


class FaultyStore(http.server.ThreadingHTTPServer):
    """The web server. Each connection serves one request, so that no idle connection stays open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance = folder, chance
        super().__init__(("127.0.0.1", 0), _Answer)


class _Answer(http.server.BaseHTTPRequestHandler):
    server: FaultyStore

    def log_message(self, *arguments: object) -> None:
        """Write no log."""

    def do_GET(self) -> None:
        """Answer with a file, or with a range of its bytes."""
        path = self.server.folder / self.path.lstrip("/")
        luck = self.server.chance.random()
        if luck < _FAILING:
            self.send_error(503)
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = _RANGE.match(self.headers.get("Range", ""))
        start, stop = 0, len(content)
        if asked:
            start = int(asked[1])
            stop = min(stop, int(asked[2]) + 1) if asked[2] else stop
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}-{len(content):x}"')
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start : (start + stop) // 2 if luck < _FAILING + _CUT else stop])

    do_HEAD = do_GET


if __name__ == "__main__":
    store = FaultyStore(Path(sys.argv[1]), random.Random(int(sys.argv[2])))
    print(f"http://127.0.0.1:{store.server_address[1]}", flush=True)
    store.serve_forever()
