"""Shard sets in a store give the batches of a local set, by few requests, which are sent ahead of need."""

import itertools
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mps_shards import DeviceLoader, ReadOptions, ShardDataset
from mps_shards.errors import ManifestError, ShardError, StorageError
from mps_shards.sampling.order import Shuffle
from mps_shards.storage.store_options import StoreOptions
from tests.support.batches import assert_same
from tests.support.sets import foreign_tars, keys, shard_set
from tests.support.web import Asked, web

COUNTS = [300, 0, 500, 200]
SET = shard_set(COUNTS)
QUICK = StoreOptions(attempts=3, first_wait_s=0.01, read_timeout_s=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a set that tests may change."""
    return Path(shutil.copytree(SET, tmp_path / "set"))


def data(shards, read_options: ReadOptions = ReadOptions(), **options) -> ShardDataset:  # noqa: B008  # frozen
    options = {"batch_size": 32, "keys": True, **options}
    return ShardDataset(shards, read_options=replace(read_options, store=QUICK), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True},
        {"shuffle": Shuffle(block=8, lanes=4, window=128), "epoch": 3},
        {"shuffle": True, "rank": 1, "world_size": 3},
        {"shuffle": True, "batch_size": None},
    ],
)
@pytest.mark.parametrize("remote_bytes", [2 << 30, 100_000, 1])
def test_a_set_in_a_store_gives_the_batches_of_the_local_set_with_little_memory(options, remote_bytes):
    with web(SET) as server:
        assert_same(
            data(server.url, read_options=ReadOptions(ahead_bytes=remote_bytes), **options), data(SET, **options)
        )


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_several_threads_read_the_same_batches_from_a_store(workers):
    with web(SET) as server, DeviceLoader(data(server.url, shuffle=True), device="cpu", num_threads=workers) as loader:
        for epoch in (0, 1):
            loader.set_epoch(epoch)
            assert_same(loader, data(SET, shuffle=True, epoch=epoch))
        stats = loader.stats()

    assert stats.requests > 0 and stats.bytes_fetched >= stats.bytes_read and stats.request_retries == 0


def test_several_sets_of_a_store_are_read_and_resumed():
    other = shard_set([40, 50], name="t")
    with web(SET) as server:
        chosen = f"{server.url}/s-{{000002..000003}}.tar"
        assert_same(data(chosen, shuffle=True), data(f"{SET}/s-{{000002..000003}}.tar", shuffle=True))
        assert_same(data([server.url, other], shuffle=True), data([SET, other], shuffle=True))

        whole, resumed = list(data(SET, shuffle=True)), data(server.url, shuffle=True)
        resumed.load_state_dict(data(SET, shuffle=True).state_dict(batches=20))
        assert_same(resumed, whole[20:])


def test_a_block_is_read_by_one_request(monkeypatch):
    monkeypatch.setattr("mps_shards.reading.remote_source.REQUEST_BYTES", 1)  # each request reads at most one block
    monkeypatch.setattr("mps_shards.storage.read_ahead._GAP", 0)
    shuffle = Shuffle(block=10, lanes=4, window=200)
    with web(shard_set([1000] * 3)) as server:
        found = list(data(server.url, shuffle=shuffle))

    assert sum(len(batch[-1]) for batch in found) == 3000
    # 300 blocks: the first batch splits some into three parts, and lanes split some into two
    assert 300 <= len(server.of_tars()) <= 300 + 2 * 32 + 4


def test_one_request_reads_many_small_samples():
    with web(SET) as server:
        list(data(server.url, shuffle=True))

    # at most one request per sample of the first batch, and one per tar for all others
    assert len(server.of_tars()) <= 32 + 3


def test_requests_overlap_and_are_sent_ahead_of_need():
    together = threading.Barrier(8, timeout=30)  # the barrier breaks, and the test fails, unless 8 requests overlap
    numbers = itertools.count()

    def wait_for_others(asked: Asked) -> None:
        if next(numbers) < 8:
            together.wait()

    with web(shard_set([400] * 20)) as server:
        dataset = data(server.url, shuffle=Shuffle(block=50, lanes=2, window=200), batch_size=2)
        batches = iter(dataset)
        next(batches)
        server.before = wait_for_others
        found = [next(batches) for _ in range(100)]  # two samples of each of at most 2 x 4 blocks

    assert len(found) == 100 and not together.broken


def test_memory_for_read_ahead_stays_within_its_limit(monkeypatch):
    from mps_shards.storage.read_ahead import ReadAhead

    most = 0
    fetched = ReadAhead._fetch

    def watched(self, *arguments):
        nonlocal most
        most = max(most, self._bytes)
        fetched(self, *arguments)

    monkeypatch.setattr(ReadAhead, "_fetch", watched)
    with web(SET) as server:
        assert_same(
            data(server.url, shuffle=True, read_options=ReadOptions(ahead_bytes=200_000)), data(SET, shuffle=True)
        )

    assert most <= 200_000 + 2 * 32 * 4096  # and the samples of the next two batches


def test_leaving_early_and_concurrent_reading_leave_no_threads():
    with web(SET) as server:
        found = data(server.url, shuffle=True)
        first, second = iter(found), iter(found)
        expected = [iter(data(SET, shuffle=True, epoch=epoch)) for epoch in range(2)]
        for _ in range(3):
            assert_same([next(first), next(second)], [next(each) for each in expected])
        del first
        assert len(list(second)) == len(found) - 3
        with DeviceLoader(found, device="cpu", num_threads=2) as loader:
            next(iter(loader))


def test_closing_wakes_a_worker_that_waits_for_a_store():
    arrived, release = threading.Event(), threading.Event()

    def block(asked: Asked) -> None:
        if asked.name.endswith(".tar"):
            arrived.set()
            release.wait(60)

    with web(SET, before=block) as server:
        loader = DeviceLoader(data(server.url), device="cpu", num_threads=2)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: next(iter(loader)))
            arrived.wait(60)
            loader.dataset.close()
            with pytest.raises(StorageError, match="reading was stopped"):
                waiting.result()
            release.set()
        loader.close()


def test_a_remote_set_pickles_without_its_index_and_reads_again():
    with web(SET) as server:
        found = data(server.url, shuffle=True)
        list(found)
        sent = pickle.dumps(found)

        assert len(sent) < 30_000
        assert_same(pickle.loads(sent), data(SET, shuffle=True, epoch=1))


def test_an_index_of_another_set_is_detected_by_its_digest(folder):
    (folder / "index.npy").write_bytes((shard_set([1000]) / "index.npy").read_bytes())

    with web(folder) as server, pytest.raises(ManifestError, match=r"index.npy has SHA-256 .* its manifest says"):
        next(iter(data(server.url)))


def test_the_error_about_a_tar_of_another_size_names_both_sizes(folder):
    tar = folder / "s-000002.tar"
    size = tar.stat().st_size
    tar.write_bytes(tar.read_bytes() + b"more")

    with web(folder) as server:
        found = iter(data(server.url))
        next(found)
        with pytest.raises(ShardError, match=rf"s-000002.tar has {size + 4} bytes, but its manifest says {size}"):
            list(found)


def test_the_error_about_a_missing_tar_names_it(folder):
    (folder / "s-000002.tar").unlink()

    with web(folder) as server, pytest.raises(StorageError, match=r"/s-000002.tar: no such object"):
        list(data(server.url))


def test_the_error_about_a_server_without_range_requests_says_so():
    with web(SET, ranges=False) as server, pytest.raises(StorageError, match="cannot send a part of a file"):
        list(data(server.url))


@pytest.mark.parametrize("ranges", [True, False])
def test_foreign_tars_stream_from_the_web(ranges):
    tars = foreign_tars(COUNTS)
    with web(tars, ranges=ranges) as server:
        named = f"{server.url}/s-{{000000..000003}}.tar"
        assert_same(data(named, shuffle=True), data(tars, shuffle=Shuffle()))

        assert [asked.name for asked in server.of_tars()].count("s-000002.tar") == 1


def test_the_error_about_a_web_folder_without_a_manifest_says_that_it_cannot_be_listed():
    with web(foreign_tars(COUNTS)) as server, pytest.raises(StorageError, match="cannot be listed, name its tars"):
        data(server.url)


def test_single_samples_of_a_store_can_be_read_by_number():
    from mps_shards.shardset.shard_set import ShardSet
    from mps_shards.storage.location import locate

    with web(SET) as server:
        found = ShardSet(locate([server.url])[0])
        assert [found.read(number).key for number in (999, 0, 300)] == keys([999, 0, 300])
