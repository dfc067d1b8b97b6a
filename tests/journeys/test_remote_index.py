"""Tars in stores are indexed in place or with a local index, and commands read sets by URL."""

import shutil
from pathlib import Path

import pytest

from mps_shards import DeviceLoader, ReadOptions, ShardDataset
from mps_shards.errors import StorageError
from mps_shards.storage import object_store as remote
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_folder import StoreFolder
from mps_shards.storage.store_options import StoreOptions
from tests.support.batches import assert_same
from tests.support.commands import refused, run
from tests.support.damage import copied, flip, swap
from tests.support.files import contents
from tests.support.sets import foreign_tars, shard_set
from tests.support.web import Asked, web
from tools.support import stores

COUNTS = [30, 0, 50]
TARS, SET = foreign_tars(COUNTS), shard_set(COUNTS)
QUICK = StoreOptions(attempts=3, first_wait_s=0.01)
NAMED = "s-{000000..000002}.tar"


@pytest.fixture(autouse=True)
def every_byte_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PIECE", 1)  # so that any progress before a break counts


def data(shards, **options) -> ShardDataset:
    return ShardDataset(
        shards, batch_size=16, keys=True, shuffle=True, read_options=ReadOptions(store=QUICK, **options)
    )


def test_tars_of_a_store_become_a_set_in_place():
    url = stores.upload(TARS, "memory://in-place")

    said = run("index", url)

    assert (said.code, said.stdout.splitlines()[0]) == (0, f"{url}: 80 samples in 3 shards, 0.2 MB")
    assert_same(data(url), data(SET))
    assert refused("index", url).startswith(f"{url} has a manifest.json already")
    assert run("verify", url, "--decode").stdout.startswith(f"{url}: all is well (80 samples in 3 shards, ")


@pytest.mark.parametrize("ranges", [True, False])
def test_tars_of_a_web_server_are_indexed_into_a_local_folder(tmp_path, ranges):
    with web(TARS, ranges=ranges) as server:
        tars = f"{server.url}/{NAMED}"

        said = run("index", tars, "--out", tmp_path / "index")

        assert said.code == 0 and f'read_options=ReadOptions(index="{tmp_path / "index"}")' in said.stdout
        assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
            "index.npy",
            "labels.npy",
            "manifest.json",
        ]
        assert (
            sum(asked.name == "s-000002.tar" for asked in server.of_tars()) == 2
        )  # the first bytes, and the whole tar
        found = data(tars, index=tmp_path / "index", cache=None if ranges else tmp_path / "cache")
        assert len(found) == 5
        with DeviceLoader(found, device="cpu", num_threads=2) as loader:
            assert_same(loader, data(sorted(SET.glob("*.tar"))))
        options = ["--index", tmp_path / "index", "--cache", tmp_path / "cache"]
        assert run("stats", tars, *options, "--json").json()["samples"] == 80
        assert run("preview", tars, *options, "-o", tmp_path / "sheet.png", "--count", "4").code == 0
        assert run("bench", tars, *options, "--device", "cpu", "--batches", "2", "--transform", "none").code == 0


def test_a_store_that_cannot_be_written_to_is_refused_before_reading(tmp_path):
    with web(TARS) as server:
        complaint = "web servers cannot be written to; name a writable folder with --out"

        assert refused("index", f"{server.url}/{NAMED}") == f"{server.url}: {complaint}"
        assert server.asked == []


def test_a_store_that_refuses_writes_is_an_error_with_advice(tmp_path, monkeypatch):
    shutil.copytree(TARS, tmp_path / "bucket")
    with web(tmp_path) as server:  # like a store that may only be read
        for name, value in stores.environment(server.url).items():
            monkeypatch.setenv(name, value)

        said = refused("index", f"s3://bucket/{NAMED}")

    assert said.startswith("s3://bucket/index.npy: ") and said.endswith("name another folder with --out")
    assert sorted(path.name for path in (tmp_path / "bucket").iterdir()) == sorted(path.name for path in TARS.iterdir())


def test_a_damaged_tar_of_a_store_is_refused_and_nothing_is_written(tmp_path):
    folder = Path(shutil.copytree(TARS, tmp_path / "tars"))
    content = (folder / "s-000002.tar").read_bytes()
    (folder / "s-000002.tar").write_bytes(content[: len(content) // 2])

    with web(folder) as server:
        assert "s-000002.tar: " in refused("index", f"{server.url}/{NAMED}", "--out", tmp_path / "index")

    assert not (tmp_path / "index").exists()


def test_a_broken_connection_is_retried_and_a_replaced_tar_is_refused(tmp_path):
    folder = Path(shutil.copytree(TARS, tmp_path / "tars"))

    def replaced(asked: Asked) -> None:
        if asked.name == "s-000002.tar" and asked.span:
            (folder / asked.name).write_bytes((TARS / asked.name).read_bytes()[:-1] + b"1")

    dropped = lambda asked, number: "dropped" if not asked.span and number < 2 else None  # noqa: E731
    with web(TARS, fault=dropped) as server:
        assert run("index", f"{server.url}/{NAMED}", "--out", tmp_path / "mended").code == 0
    with web(folder, fault=dropped, before=replaced) as server:
        assert "was replaced while it was in use" in refused(
            "index", f"{server.url}/{NAMED}", "--out", tmp_path / "replaced"
        )

    assert (tmp_path / "mended" / "index.npy").read_bytes() == (SET / "index.npy").read_bytes()


def test_a_tar_with_another_size_than_the_manifest_states_is_an_error(tmp_path):
    with web(TARS) as server:
        run("index", f"{server.url}/{NAMED}", "--out", tmp_path / "index")
    folder = Path(shutil.copytree(TARS, tmp_path / "tars"))
    (folder / "s-000002.tar").write_bytes((folder / "s-000002.tar").read_bytes() + bytes(512))

    with (
        web(folder) as server,
        pytest.raises(Exception, match=r"s-000002.tar has \d+ bytes, but its manifest says \d+"),
    ):
        list(data(f"{server.url}/{NAMED}", index=tmp_path / "index"))


def test_commands_read_sets_by_their_urls(tmp_path):
    url = stores.upload(SET, "memory://commands")

    for command in (["info"], ["ls", "-l"], ["ls", "--class", "cat"], ["info", "--json"]):
        remote, local = run(*command, url), run(*command, SET)
        assert (remote.stdout, remote.code) == (local.stdout, local.code)  # the next step on stderr names the set
    assert run("stats", url, "--json").json()["mean"] == run("stats", SET, "--json").json()["mean"]
    assert run("preview", url, "-o", tmp_path / "sheet.png", "--count", "4").code == 0
    assert run("bench", url, "--device", "cpu", "--batches", "2", "--transform", "none", "--json").code == 0
    verified = run("verify", url, "--json").json()
    assert (verified[0]["samples"], verified[0]["problems"]) == (80, [])


def test_damage_in_a_store_is_found_by_verifying(tmp_path):
    folder = copied(COUNTS, tmp_path / "set")
    flip(folder / "s-000002.tar", 700)
    url = stores.upload(folder, "memory://verify")

    said = run("verify", url, "--json")

    assert said.code == 1
    assert {problem["kind"] for problem in said.json()[0]["problems"]} >= {"wrong digest", "damaged sample"}


def test_a_set_in_a_store_is_resharded_into_the_store(tmp_path):
    url, out = stores.upload(SET, "memory://reshard-from"), "memory://reshard-to/set"

    said = run("reshard", url, "-o", out, "--shard-samples", "32", "--drop", "s00007")
    assert run("reshard", SET, "-o", tmp_path / "local", "--shard-samples", "32", "--drop", "s00007").code == 0

    assert said.stdout.splitlines()[0] == f"{out}: 79 samples in 3 shards, 0.2 MB"
    assert_same(data(out), data(tmp_path / "local"))
    assert "is or contains one of the sets that are read" in refused("reshard", url, "-o", url, "--overwrite")


def test_a_set_in_a_store_is_unpacked(tmp_path):
    url = stores.upload(SET, "memory://unpack")

    said = run("unpack", url, tmp_path / "theirs")

    run("unpack", SET, tmp_path / "ours")
    assert said.code == 0 and contents(tmp_path / "theirs") == contents(tmp_path / "ours")


def test_a_set_in_a_store_is_repaired_like_a_local_set(tmp_path):
    folder = copied(COUNTS, tmp_path / "set")
    flip(folder / "s-000002.tar", 700)
    swap(folder / "s-000000.tar", folder / "s-000001.tar")
    (folder / "rubbish.tar").write_bytes(b"rubbish")
    url = stores.upload(folder, "memory://repair")

    theirs, ours = run("repair", url, "--json").json(), run("repair", folder, "--json").json()

    assert (theirs["steps"], theirs["lost"]) == (ours["steps"], ours["lost"])
    stored = open_folder(url)
    assert {name: stored.read_file(name, max_bytes=1 << 30) for name in stored.below()} == contents(folder)
    assert run("verify", url).code == 0


@pytest.mark.parametrize("call", ["delete", "upload", "write"])
def test_a_repair_in_a_store_that_fails_anywhere_can_be_repeated(tmp_path, monkeypatch, call):
    folder = copied([3, 3, 3], tmp_path / "set")
    flip(folder / "s-000002.tar", 700)
    swap(folder / "s-000000.tar", folder / "s-000001.tar")
    repaired = Path(shutil.copytree(folder, tmp_path / "repaired"))
    run("repair", repaired)
    expected, number = contents(repaired), 0
    while True:
        url = stores.upload(folder, f"memory://failing-{call}-{number}")
        if not _fails(call, number, url, monkeypatch):
            break
        run("repair", url)
        stored = open_folder(url)
        assert {name: stored.read_file(name, max_bytes=1 << 30) for name in stored.below()} == expected, number
        number += 1
    assert number >= 3


def _fails(call: str, number: int, url: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Repair a set in a store, let the call with this number fail, and return whether there was such a call."""
    seen = 0

    def failing(self: StoreFolder, *args: object) -> object:
        nonlocal seen
        seen += 1
        if seen == number + 1:
            raise StorageError("the store is gone")
        return original(self, *args)

    original = getattr(StoreFolder, call)
    with monkeypatch.context() as patch:
        patch.setattr(StoreFolder, call, failing)
        return run("repair", url).code != 0


def test_a_web_server_is_not_repaired(tmp_path):
    folder = copied(COUNTS, tmp_path / "set")
    flip(folder / "s-000002.tar", 700)

    with web(folder) as server:
        assert "cannot" in refused("repair", server.url)


def test_an_index_is_for_tars_of_one_folder(tmp_path):
    with pytest.raises(ValueError, match="is for tars of one folder, but 2 folders were named"):
        data([SET, TARS], index=tmp_path)
    with pytest.raises(StorageError, match="no such directory"):
        data(TARS, index=tmp_path / "gone")
