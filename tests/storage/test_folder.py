"""The contract of a folder, for local disks, web servers and fsspec's file systems."""

import contextlib
import pickle
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.folder import FileMissing, Folder, Traffic
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import without_secrets
from tests.support.web import Web, web

CONTENT = bytes(range(256)) * 12_000  # three pieces and a bit


@pytest.fixture(params=["disk", "web", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """Folders of every kind that hold the same file."""
    (tmp_path / "a file.tar").write_bytes(CONTENT)
    if request.param == "disk":
        local = LocalFolder(tmp_path)
        yield local
        local.close()
    elif request.param == "memory":
        there = open_folder(f"memory://{tmp_path.name}")
        there.write("a file.tar", CONTENT)
        yield there
    else:
        with web(tmp_path) as server:
            yield open_folder(server.url)


def test_size_ranges_whole_files_and_streams_can_be_read(folder):
    assert folder.identity("a file.tar").size == len(CONTENT)
    assert folder.read("a file.tar", 5, 2_000_000) == CONTENT[5:2_000_000]
    assert folder.read_file("a file.tar", max_bytes=len(CONTENT)) == CONTENT
    with folder.open_stream("a file.tar") as stream:
        assert (stream.peek(4)[:4], stream.tell()) == (CONTENT[:4], 0)
        assert stream.read(1_500_000) == CONTENT[:1_500_000]
        assert stream.tell() == 1_500_000
        assert stream.read() == CONTENT[1_500_000:]


def test_missing_too_large_and_too_short_files_are_errors(folder):
    assert folder.has("a file.tar") and not folder.has("another.tar")
    with pytest.raises(FileMissing, match=r"another.tar: [Nn]o such"):
        folder.read("another.tar", 0, 5)
    with pytest.raises(StorageError, match=rf"has {len(CONTENT)} bytes, but at most 10 are accepted"):
        folder.read_file("a file.tar", max_bytes=10)
    with pytest.raises(StorageError, match=rf"ends at byte {len(CONTENT)}, but {len(CONTENT) - 2} bytes from 9 were"):
        folder.read("a file.tar", 9, len(CONTENT) + 7)


def test_a_pickled_folder_can_be_read(folder):
    folder.identity("a file.tar")

    assert pickle.loads(pickle.dumps(folder)).read("a file.tar", 0, 9) == CONTENT[:9]


def test_files_can_be_listed_and_written_on_a_file_system(tmp_path):
    for folder in (LocalFolder(tmp_path), open_folder(f"memory://listed/{tmp_path.name}")):
        for name in ("b.tar", "a.tar"):
            folder.write(name, b"some")
        folder.write("a.tar", b"more")

        assert folder.names() == ["a.tar", "b.tar"]
        assert folder.read_file("a.tar", max_bytes=9) == b"more"


def test_requests_bytes_and_retries_are_counted(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    with web(tmp_path, fault=lambda asked, number: 503 if number < 2 else None) as server:
        folder = open_folder(server.url)
        folder.read("x", 10, 30)

    assert folder.traffic == Traffic(requests=3, bytes=20, retries=2)


def test_a_stopped_reader_does_not_repeat_requests(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    stopped: Future[None] = Future()

    def fail_and_stop(asked: object, number: int) -> int:
        stopped.set_result(None)
        return 503

    with web(tmp_path, fault=fail_and_stop) as server, pytest.raises(StorageError, match="reading was stopped"):
        open_folder(server.url).read("x", 0, 9, stopped=stopped)


def test_a_server_that_does_not_listen_is_an_error_that_says_so():
    url = "http://127.0.0.1:9"  # port 9 (discard): no server listens there

    with pytest.raises(StorageError, match=r"127.0.0.1:9/x: gave up after 2 attempts; .*Connection refused"):
        open_folder(url, options=StoreOptions(attempts=2, first_wait_s=0.01)).read("x", 0, 9)


def test_a_handled_error_keeps_no_object_of_its_callers_alive():
    class Local:
        """An object that a caller holds, such as an open file."""

    held: list[weakref.ref[Local]] = []

    def call() -> None:
        local = Local()
        held.append(weakref.ref(local))
        open_folder("http://127.0.0.1:9", options=StoreOptions(attempts=1)).read_file("x", max_bytes=9)

    for _ in range(5):
        with contextlib.suppress(StorageError):
            call()

    assert [each() for each in held] == [None] * 5


def test_an_unknown_file_system_or_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.registry", None)

    with pytest.raises(ConfigError, match=r"hf://datasets/a/b: hf: needs fsspec: run pip install"):
        open_folder("hf://datasets/a/b")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("GET https://me:word@host:80/a/b?sig=1&x=2 failed", "GET https://host:80/a/b failed"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("no address here", "no address here"),
    ],
)
def test_addresses_in_messages_have_no_secrets(text, public):
    assert without_secrets(text) == public


def test_a_folder_works_without_the_thread_that_made_it(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    server: Web
    with web(tmp_path) as server:
        folder = open_folder(f"{server.url}/?token=abc")
        assert folder.read("x", 1, 3) == b"bc"
    assert "token" not in f"{folder}{folder!r}"
