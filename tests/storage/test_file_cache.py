"""Cache of files: each file is fetched once and completely, is never mixed up with another, and the size is limited."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mps_shards import DeviceLoader, ReadOptions, ShardDataset
from mps_shards.errors import ConfigError, ShardError, StorageError
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from tests.support.batches import assert_same
from tests.support.sets import foreign_tars, shard_set
from tests.support.web import Asked, web

SET = shard_set([30, 0, 50, 20])
QUICK = StoreOptions(attempts=3, first_wait_s=0.01)
ROOT = Path(__file__).parents[2]

FETCH = """
import sys
from pathlib import Path
from mps_shards.storage.file_cache import Cache
from mps_shards.storage.location import open_folder

folder, url, *names = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for name in names:
    print(Cache(Path(folder)).path(open_folder(url), name), flush=True)
"""


def data(shards, cache: Path | None = None, *, cache_bytes: int | None = None, **options) -> ShardDataset:
    reading = ReadOptions(cache=cache, cache_bytes=cache_bytes, store=QUICK)
    return ShardDataset(shards, **{"batch_size": 16, "keys": True, "shuffle": True, "read_options": reading, **options})


def contents(cache: Path) -> list[Path]:
    return list(cache.glob("*/content*"))


@pytest.mark.parametrize("ranges", [True, False])
def test_tars_are_fetched_once_whole_and_then_read_from_the_cache(tmp_path, ranges):
    with web(SET, ranges=ranges) as server:
        for again in (False, True):
            with DeviceLoader(data(server.url, tmp_path), device="cpu", num_threads=3) as loader:
                assert_same(loader, data(SET))
                stats = loader.stats()
            assert (
                stats.bytes_fetched == 0 and stats.cache_hits >= 3 if again else stats.bytes_fetched > stats.bytes_read
            )

        assert sorted(asked.name for asked in server.of_tars()) == [f"s-{n:06d}.tar" for n in (0, 2, 3)]


def test_a_slow_local_folder_and_foreign_tars_can_be_cached(tmp_path):
    tars = foreign_tars([7, 8])

    assert_same(data(SET, tmp_path / "a"), data(SET))
    assert len(contents(tmp_path / "a")) == 3 + 1  # the tars and the index
    for _ in range(2):
        assert_same(data(tars, tmp_path / "b"), data(tars))
    assert len(contents(tmp_path / "b")) == 2


def test_files_with_equal_names_in_other_folders_or_with_other_times_are_not_mixed_up(tmp_path):
    served = tmp_path / "served"
    for name, counts in (("train", [20]), ("val", [30])):
        shutil.copytree(shard_set(counts, name=name[0]), served / name)
    with web(served) as server:
        for name in ("train", "val"):
            assert_same(data(f"{server.url}/{name}", tmp_path / "cache"), data(served / name))

        shutil.copytree(shard_set([20], name="v"), served / "train", dirs_exist_ok=True)
        assert_same(data(f"{server.url}/train", tmp_path / "cache"), data(served / "train"))


def test_a_full_cache_evicts_the_least_recently_opened_file(tmp_path):
    most = sum(path.stat().st_size for path in SET.iterdir()) * 2 // 3
    with web(SET) as server:
        for epoch in range(2):
            assert_same(data(server.url, tmp_path, cache_bytes=most, epoch=epoch), data(SET, epoch=epoch))
            assert 0 < sum(path.stat().st_size for path in contents(tmp_path)) <= most


def test_a_tar_with_a_wrong_digest_is_refused_and_not_kept(tmp_path):
    folder = Path(shutil.copytree(SET, tmp_path / "set"))
    tar = folder / "s-000002.tar"
    tar.write_bytes(bytes(tar.stat().st_size))

    with web(folder) as server:
        for _ in range(2):
            with pytest.raises(ShardError, match=r"s-000002.tar has SHA-256 \w+, but its manifest says \w+"):
                list(data(server.url, tmp_path / "cache", shuffle=False))

    assert len(contents(tmp_path / "cache")) == 2  # the cache holds the index and the first tar


def test_a_fetch_that_fails_leaves_nothing(tmp_path):
    with web(SET, fault=lambda asked, number: "dropped" if asked.method == "GET" else None) as server:
        source = open_folder(server.url, options=QUICK)
        with pytest.raises(StorageError, match="gave up after 3 attempts"):
            Cache(tmp_path).path(source, "s-000002.tar")

    assert contents(tmp_path) == []


def started(cache: Path, url: str, *names: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", FETCH, str(cache), url, *names]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_eight_processes_fetch_each_file_once(tmp_path):
    names = [path.name for path in SET.glob("*.tar")]
    with web(SET) as server:
        processes = [started(tmp_path, server.url, *names) for _ in range(8)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = {process.communicate()[0] for process in processes}

        assert len(found) == 1 and len(found.pop().split()) == len(names)
        assert sorted(asked.name for asked in server.of_tars()) == sorted(names)


def test_a_killed_process_leaves_no_bad_entry_and_no_lock(tmp_path):
    fetching, release = threading.Event(), threading.Event()

    def hold(asked: Asked) -> None:
        if asked.method == "GET" and not fetching.is_set():
            fetching.set()
            release.wait(60)

    with web(SET, before=hold) as server:
        process = started(tmp_path, server.url, "s-000002.tar")
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        fetching.wait(60)
        process.kill()
        process.communicate()
        assert [path.name for path in contents(tmp_path)] == ["content.part"]

        found = Cache(tmp_path).path(open_folder(server.url, options=QUICK), "s-000002.tar")
        release.set()

    assert found.read_bytes() == (SET / "s-000002.tar").read_bytes()
    assert contents(tmp_path) == [found]


def test_a_limit_without_a_folder_or_below_one_byte_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cache_bytes=5 needs a folder"):
        data(SET, cache_bytes=5)
    with pytest.raises(ConfigError, match="cache_bytes must be at least 1, not 0"):
        data(SET, tmp_path, cache_bytes=0)
