"""Behaviour that depends on obstore's version (see pyproject.toml): forks, Ctrl-C, and stores that never answer."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.location import open_folder
from mps_shards.storage.ordered_map import ordered_map
from mps_shards.storage.store_options import StoreOptions
from tests.support.commands import refused
from tests.support.web import web

ROOT = Path(__file__).parents[2]

FORKED = """
import os, sys
from mps_shards.storage.location import open_folder

folder = open_folder(sys.argv[1])
assert bytes(folder.read("x", 0, 3)) == b"abc"  # obstore's threads run in this process now
for generation in range(2):
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert bytes(folder.read("x", 1, 3)) == b"bc"
    assert not folder.has("nothing")
os._exit(7)
"""


ENDED_BY_DELIVERY = """
import asyncio, sys, time
from mps_shards.storage.location import open_folder

wake_up = asyncio.SelectorEventLoop._write_to_self


def slowly(loop):
    wake_up(loop)  # the main thread gets its answer and ends, while this thread of obstore still runs Python
    time.sleep(0.3)


asyncio.SelectorEventLoop._write_to_self = slowly
assert bytes(open_folder(sys.argv[1]).read("x", 0, 3)) == b"abc"
"""


@contextmanager
def silent() -> Iterator[str]:
    """Run a server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_forked_children_and_grandchildren_can_read_after_their_parent(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    with web(tmp_path) as server:
        done = subprocess.run([sys.executable, "-c", FORKED, server.url], cwd=ROOT, timeout=60)

    assert done.returncode == 7


def test_the_process_ends_well_while_a_thread_of_obstore_delivers_an_answer(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    with web(tmp_path) as server:
        done = subprocess.run([sys.executable, "-c", ENDED_BY_DELIVERY, server.url], cwd=ROOT, timeout=60)

    assert done.returncode == 0


def test_the_process_ends_well_while_a_request_waits():
    program = "import sys; from mps_shards.storage.location import open_folder; from threading import Thread\n"
    program += "Thread(target=lambda: open_folder(sys.argv[1]).read('x', 0, 3), daemon=True).start()\n"
    program += "import time; time.sleep(0.5)"
    with silent() as url:
        done = subprocess.run([sys.executable, "-c", program, url], cwd=ROOT, timeout=60, capture_output=True)

    assert done.returncode == 0


def test_a_request_to_a_store_that_never_answers_times_out():
    with silent() as url:
        folder = open_folder(url, options=StoreOptions(read_timeout_s=0.2, connect_timeout_s=0.2, give_up_s=1))

        with pytest.raises(StorageError, match=r"/x: gave up after \d attempts?; last error: .*([Tt]ime|no answer)"):
            folder.read("x", 0, 9)


def test_ctrl_c_ends_the_wait_for_a_store_at_once():
    with silent() as url:
        folder = open_folder(url)
        main = threading.main_thread().ident
        timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
        timer.start()
        began = time.monotonic()

        with pytest.raises(KeyboardInterrupt):
            folder.read("x", 0, 9)

    assert time.monotonic() - began < 5  # the request itself would take 10 s
    timer.join()


def test_leaving_a_map_does_not_wait_for_its_requests():
    begun = threading.Event()

    def read(number: int) -> int:
        if number:
            begun.set()
            folder.read("x", 0, 9)
        return number

    with silent() as url:
        folder = open_folder(url)
        results = ordered_map(read, range(2), workers=2)
        assert next(results) == 0
        begun.wait()
        began = time.monotonic()
        results.close()

    assert time.monotonic() - began < 5  # the request itself would take 10 s


def test_a_command_asks_a_store_that_never_answers_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/manifest.json").touch()
    monkeypatch.setattr(StoreOptions, "wait_s", lambda options, failures: 0.01)
    asked = []
    with web(tmp_path, fault=lambda request, number: asked.append(request.name) or 503) as server:
        said = refused("info", f"{server.url}/set")

    assert "gave up after 8 attempts" in said
    assert asked == ["set/manifest.json"] * 8
