"""Sets in stores, read over S3, over HTTP and through fsspec."""

from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, pack
from mps_shards.errors import ConfigError, ShardError, StorageError
from tests.support.batches import assert_same, keys_of
from tests.support.commands import run
from tests.support.sets import foreign_tars, shard_set
from tests.support.web import web
from tools.support import stores

METHODS = ["fork", pytest.param("spawn", marks=pytest.mark.slow)]  # slow, because torch is imported again


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "set"
    pack(photos, folder, shard_samples=7)
    return folder


@pytest.fixture(scope="module")
def s3(address: str) -> str:
    return f"s3://{stores.BUCKET}"


@pytest.fixture(scope="module")
def uploaded(packed: Path, s3: str) -> str:
    return stores.upload(packed, f"{s3}/some/photos")


def data(shards, **options) -> ShardDataset:
    return ShardDataset(shards, **{"batch_size": 8, "keys": True, "shuffle": True, **options})


def test_a_set_in_s3_is_read_with_any_number_of_threads(packed, uploaded):
    local = list(data(packed))

    assert_same(data(f"{uploaded}/"), local)
    for workers in (1, 2, 4):
        with DeviceLoader(data(uploaded), device="cpu", num_threads=workers) as loader:
            assert_same(loader, local)


@pytest.mark.parametrize("method", METHODS)
def test_dataloader_workers_read_what_their_parent_has_read_before(packed, uploaded, method):
    remote, local = data(uploaded), list(data(packed))
    next(iter(remote))  # obstore's threads run in this process now, and will not in a fork
    remote.set_epoch(0)

    loader = DataLoader(remote, batch_size=None, num_workers=2, multiprocessing_context=method)

    assert_same(loader, local)


def test_ranks_and_chosen_tars_are_read_from_s3(packed, uploaded):
    name = sorted(path.name for path in packed.glob("*.tar"))[3]

    assert_same(data(f"{uploaded}/{name}"), data(packed / name))
    for rank in range(3):
        ranks = {"rank": rank, "world_size": 3}
        assert_same(data(uploaded, **ranks), data(packed, **ranks))


def test_foreign_tars_of_a_bucket_are_listed_and_streamed(s3):
    tars = foreign_tars([20, 0, 30])
    stores.upload(tars, f"{s3}/foreign")

    assert keys_of(data(f"{s3}/foreign")) == keys_of(data(tars))
    assert keys_of(data(f"{s3}/foreign/s-000002.tar")) == keys_of(data(tars / "s-000002.tar"))
    assert run("index", f"{s3}/foreign").code == 0  # the index is written beside the tars
    assert_same(data(f"{s3}/foreign"), data(shard_set([20, 0, 30])))


def test_a_missing_bucket_or_prefix_is_an_error_that_names_it(s3):
    with pytest.raises(StorageError, match=r"s3://no-such-bucket: "):
        data("s3://no-such-bucket")
    with pytest.raises(ConfigError, match=f"{s3}/nothing holds neither a manifest.json nor any tar"):
        data(f"{s3}/nothing")


def assert_reads_as(found: ShardDataset, local: list, *, method: str = "fork") -> None:
    """Fail unless 1, 2 and 4 threads and two DataLoader workers read the expected samples."""
    for workers in (1, 2, 4):
        found.set_epoch(0)
        with DeviceLoader(found, device="cpu", num_threads=workers) as loader:
            assert_same(loader, local)
    found.set_epoch(0)
    assert_same(DataLoader(found, batch_size=None, num_workers=2, multiprocessing_context=method), local)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_set_on_a_web_server_is_read_over_http(packed, tmp_path, ranges, method):
    with web(packed, ranges=ranges) as server:
        found = data(
            server.url, read_options=ReadOptions(cache=None if ranges else tmp_path)
        )  # whole tars, where there are no ranges

        assert_reads_as(found, list(data(packed)), method=method)


def test_a_set_is_read_from_a_file_system_of_fsspec(packed):
    url = stores.upload(packed, "memory://photos")

    assert_same(data(url), data(packed))
    assert_same(data(stores.upload(foreign_tars([9]), "memory://tars")), data(foreign_tars([9])))


def test_contents_of_a_store_without_etags_are_verified():
    folder = shard_set([5])
    url = stores.upload(folder, "memory://damaged")
    content = bytearray((folder / "s-000000.tar").read_bytes())
    content[len(content) // 2] ^= 1

    from mps_shards.storage.location import open_folder

    open_folder(url).write("s-000000.tar", bytes(content))

    with pytest.raises(ShardError, match="the shard was damaged or replaced"):
        list(data(url))


@pytest.mark.parametrize("method", METHODS)
def test_seaweedfs_gives_the_same_samples(packed, monkeypatch, method):
    with stores.seaweed() as address:
        for name, value in stores.environment(address).items():
            monkeypatch.setenv(name, value)
        url = stores.upload(packed, f"s3://{stores.BUCKET}/weed")

        assert_reads_as(data(url), list(data(packed)), method=method)
