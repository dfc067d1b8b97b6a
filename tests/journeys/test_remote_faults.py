"""A network with every known failure: the same samples or the right error, and never a hang."""

import itertools
import shutil
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from mps_shards import DeviceLoader, ReadOptions, ShardDataset
from mps_shards.errors import ShardError, StorageError
from mps_shards.storage import object_store as remote
from mps_shards.storage.store_options import StoreOptions
from tests.support.batches import assert_same
from tests.support.sets import foreign_tars, shard_set
from tests.support.web import BROKEN_BODIES, Asked, web

COUNTS = [60, 0, 90, 50]
SET = shard_set(COUNTS)
QUICK = StoreOptions(attempts=4, first_wait_s=0.01, read_timeout_s=0.5)
NAMED = "s-{000000..000003}.tar"


@pytest.fixture(autouse=True)
def every_byte_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PIECE", 1)  # so that any progress before a break counts


def data(shards, read_options: ReadOptions = ReadOptions(), **options) -> ShardDataset:  # noqa: B008  # frozen
    options = {"batch_size": 16, "keys": True, "shuffle": True, **options}
    return ShardDataset(shards, read_options=replace(read_options, store=QUICK), **options)


PASSING = [500, 503, 429, *BROKEN_BODIES]


def at_first(fault: int | str, times: int = 1):
    return lambda asked, number: fault if asked.method == "GET" and number < times else None


@pytest.mark.parametrize("fault", [*PASSING, "trickled"])
def test_temporary_failures_are_retried_and_counted(fault):
    with (
        web(SET, fault=at_first(fault)) as server,
        DeviceLoader(data(server.url), device="cpu", num_threads=3) as loader,
    ):
        assert_same(loader, data(SET))
        assert loader.stats().requests > 0

    assert loader.dataset.source.traffic().retries > 0 or fault == "trickled"


@pytest.mark.parametrize("fault", sorted({*PASSING} - {"too long"}, key=str))  # with this fault the data is complete
def test_a_permanent_failure_is_an_error_with_address_attempts_and_cause(fault):
    def of_one_tar(asked: Asked, number: int) -> int | str | None:
        return fault if asked.name == "s-000002.tar" else None

    with web(SET, fault=of_one_tar) as server, pytest.raises(StorageError) as raised:
        list(data(server.url))

    assert f"{server.url}/s-000002.tar: gave up after 4 attempts; last error: " in str(raised.value)
    assert str(fault) in str(raised.value) or isinstance(fault, str)


@pytest.mark.parametrize(("status", "complaint"), [(403, "access denied"), (404, "no such object"), (400, "400 Bad")])
def test_a_failure_that_retries_cannot_change_is_raised_at_once(status, complaint):
    def of_tars(asked: Asked, number: int) -> int | None:
        return status if asked.name.endswith(".tar") else None

    with web(SET, fault=of_tars) as server, pytest.raises(StorageError, match=complaint):
        list(data(server.url))

    spans = [(asked.name, asked.span) for asked in server.of_tars()]
    assert len(spans) == len(set(spans))


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fault", [503, "dropped", "reset", "too long"])
def test_a_stream_continues_where_it_broke(fault, ranges):
    tars = foreign_tars(COUNTS)
    with web(tars, fault=at_first(fault), ranges=ranges) as server:
        found = data(f"{server.url}/{NAMED}")
        assert_same(found, data(tars))

    began = [asked.span for asked in server.of_tars() if asked.name == "s-000002.tar"]
    size = (tars / "s-000002.tar").stat().st_size
    if fault in ("dropped", "reset"):
        assert began[0] is None and began[1] is not None and 0 < began[1][0] <= size // 2
    assert found.source.traffic().retries >= 3


def test_a_stream_that_always_ends_early_is_an_error():
    tars = foreign_tars(COUNTS)
    complaint = r"s-00000\d.tar: gave up after 4 attempts"
    fault = lambda asked, number: 503 if asked.span else "dropped"  # noqa: E731
    with web(tars, fault=fault) as server, pytest.raises(StorageError, match=complaint):
        list(data(f"{server.url}/{NAMED}"))


def another(folder: Path) -> None:
    """Replace the second tar's bytes, keeping its size."""
    tar = folder / "s-000002.tar"
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_tar_that_is_replaced_while_it_is_read_is_an_error(tmp_path, shuffle):
    folder = Path(shutil.copytree(SET, tmp_path / "set"))
    with web(folder) as server:
        found = iter(data(server.url, shuffle=shuffle, read_options=ReadOptions(ahead_bytes=50_000)))
        for _ in range(5):
            next(found)
        another(folder)

        with pytest.raises(StorageError, match=r"s-000002.tar was replaced while it was in use: it had \d+ bytes and"):
            list(found)


def test_a_stream_whose_tar_is_replaced_when_it_connects_again_is_an_error(tmp_path):
    folder = Path(shutil.copytree(foreign_tars(COUNTS), tmp_path / "tars"))

    def drop_and_replace(asked: Asked, number: int) -> str | None:
        if asked.name != "s-000002.tar" or asked.span:
            return None
        return "dropped"

    def replaced(asked: Asked) -> None:
        if asked.name == "s-000002.tar" and asked.span:
            another(folder)

    complaint = r"s-000002.tar was replaced while it was in use"
    with web(folder, fault=drop_and_replace, before=replaced) as server, pytest.raises(StorageError, match=complaint):
        list(data(f"{server.url}/{NAMED}", shuffle=False))


def test_a_replaced_tar_of_the_same_size_is_found_by_verified_reads_without_etags(tmp_path):
    folder = Path(shutil.copytree(SET, tmp_path / "set"))
    another(folder)

    with web(folder, etags=False) as server, pytest.raises(ShardError, match="the shard was damaged or replaced"):
        list(data(server.url, read_options=ReadOptions(verify=True)))


def test_waits_between_attempts_grow_and_vary():
    waits = [[StoreOptions(longest_wait_s=1.0).wait_s(failures) for _ in range(50)] for failures in range(1, 8)]

    assert all(0.1 <= wait <= 0.2 for wait in waits[0]) and len(set(waits[0])) > 1
    assert all(max(one) <= 2 * min(next_one) * 1.01 for one, next_one in itertools.pairwise(waits))
    assert max(waits[-1]) <= 1.0


@pytest.mark.parametrize("address", ["http://me:hunter2@{}", "http://{}?signature=hunter2"])
def test_no_error_contains_a_secret(address):
    def refuse_tars(asked: Asked, number: int) -> int | None:
        return 503 if asked.name.endswith(".tar") else None

    with web(SET, fault=refuse_tars) as server:
        found = data(address.format(server.url.removeprefix("http://")))
        with pytest.raises(StorageError) as raised:
            list(found)

        reported = [repr(found), repr(raised.value), *traceback.format_exception(raised.value)]
        assert not [text for text in reported if "hunter2" in text]
        assert "authorization" in server.asked[-1].headers or "signature" in address
