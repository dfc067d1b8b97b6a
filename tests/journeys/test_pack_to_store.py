"""Packing directly to a store: the bytes of a local pack with every executor, also after failures."""

import json
import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, ShardsError, StorageError
from mps_shards.packing import commit
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from tests.support import commands
from tests.support.batches import assert_same
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write
from tests.support.proxy import proxy
from tools.support import stores

OPTIONS = {"shard_samples": 4, "split": "train=0.8,val=0.2", "on_bad_sample": "skip"}


@pytest.fixture
def url(address: str, tmp_path: Path) -> str:
    return f"s3://{stores.BUCKET}/{tmp_path.name}/some shards"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "imgs"
    class_folders(folder, classes=3, each=10)
    return write(folder, {"class-1/bad.jpg": b"no image"})


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(pack(source, tmp_path_factory.mktemp("local") / "out", workers=1, **OPTIONS).out)


def stored(url: str) -> dict[str, bytes]:
    """Return every file at a prefix, including hidden files, by relative path."""
    folder = open_folder(url)
    return {name: folder.read_file(name, max_bytes=1 << 30) for name in folder.below()}


@pytest.mark.parametrize("workers", [1, 4])
def test_a_pack_in_a_store_has_the_bytes_of_a_local_pack(source: Path, url: str, local: dict[str, bytes], workers: int):
    report = pack(source, url, workers=workers, **OPTIONS)

    assert stored(url) == local
    assert (report.out, [each.folder for each in report.sets]) == (url, [f"{url}/train", f"{url}/val"])


def test_array_tasks_can_run_in_any_order(source: Path, url: str, local: dict[str, bytes]):
    for index in random.Random(0).sample(range(3), 3):
        assert not pack(source, url, executor="array", task_index=index, num_tasks=3, **OPTIONS).finished
    report = commit(url)

    assert (report.finished, len(report.skipped)) == (True, 1)
    assert stored(url) == local


def test_array_tasks_can_begin_at_the_same_time(source: Path, url: str, local: dict[str, bytes]):
    def task(index: int) -> None:
        pack(source, url, executor="array", task_index=index, num_tasks=3, workers=1, **OPTIONS)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(task, range(3)))
    said = commands.run("pack", "--commit", url)

    assert said.stdout.startswith(f"{url}/train: ")
    assert stored(url) == local


def test_only_one_of_several_simultaneous_plans_is_carried_out(source: Path, url: str, tmp_path: Path):
    def attempt(seed: int) -> int | str:
        try:
            pack(source, url, seed=seed, workers=1, **OPTIONS)
        except ConfigError as error:
            return str(error)
        return seed

    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(attempt, range(3)))

    [seed] = [end for end in ended if isinstance(end, int)]
    assert all("another plan" in end or "finished pack" in end or "not empty" in end for end in ended if end != seed), (
        ended
    )
    assert stored(url) == contents(pack(source, tmp_path / "out", seed=seed, **OPTIONS).out)


@pytest.mark.slow  # Ray takes its time to start
def test_a_ray_cluster_that_sees_only_the_source_writes_to_a_store(source: Path, url: str, local: dict[str, bytes]):
    pytest.importorskip("ray")
    options = ["--shard-samples", "4", "--split", "train=0.8,val=0.2", "--on-bad-sample", "skip"]
    command = ["-m", "mps_shards", "pack", source, url, *options, "--executor", "ray"]

    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert stored(url) == local


def test_a_pack_can_be_written_to_a_file_system_of_fsspec(source: Path, local: dict[str, bytes], tmp_path: Path):
    for url in (f"memory://{tmp_path.name}/out", f"local://{tmp_path}/out"):
        pack(source, url, **OPTIONS)

        assert stored(url) == local


def test_a_set_packed_in_a_store_is_read_like_a_local_set(photos: Path, url: str, tmp_path: Path):
    pack(photos, url, shard_samples=16)
    pack(photos, tmp_path / "here", shard_samples=16)

    there, here = (ShardDataset(out, batch_size=8, shuffle=True, keys=True) for out in (url, tmp_path / "here"))
    assert_same(there, list(here))


@pytest.fixture
def unfinished(source: Path, url: str) -> str:
    """Make a pack in which every second shard is finished."""
    pack(source, url, executor="array", task_index=0, num_tasks=2, **OPTIONS)
    return url


def test_an_unfinished_pack_is_not_read_as_tars_without_a_manifest(unfinished: str):
    with pytest.raises(StorageError, match=r"some shards/train holds an unfinished pack \(manifest.json.part\)"):
        ShardDataset(f"{unfinished}/train", batch_size=1)


@pytest.mark.parametrize(
    ("harm", "kept"),
    [
        (lambda there: None, 5),
        (lambda there: there.write("train/train-000000.tar", bytes(there.identity("train/train-000000.tar").size)), 4),
        (lambda there: there.delete("train/train-000000.tar"), 4),
        (lambda there: [there.write(name, b"{") for name in there.below(".pack") if "train-000000" in name], 4),
        (lambda there: there.delete("train/manifest.json.part"), 5),
    ],
    ids=["nothing", "replaced", "gone", "record", "marker"],
)
def test_finished_shards_are_kept_unless_they_were_changed(
    source: Path, unfinished: str, local: dict[str, bytes], harm: Callable[[WritableFolder], object], kept: int
):
    harm(open_folder(unfinished))

    report = pack(source, unfinished, **OPTIONS)

    assert report.kept == kept
    assert stored(unfinished) == local


def test_missing_shards_are_named_when_tasks_are_joined(unfinished: str):
    with pytest.raises(StorageError, match=r"some shards lacks 4 of 9 shards: train-000001.tar, "):
        commit(unfinished)


def test_a_replaced_shard_is_not_joined(source: Path, unfinished: str):
    pack(source, unfinished, executor="array", task_index=1, num_tasks=2, **OPTIONS)
    there = open_folder(unfinished)
    there.write("val/val-000000.tar", bytes(there.identity("val/val-000000.tar").size))

    with pytest.raises(StorageError, match=r"some shards lacks 1 of 9 shards: val-000000.tar; run their tasks again"):
        commit(unfinished)


def test_another_plan_is_refused_and_changes_nothing(source: Path, unfinished: str):
    before = stored(unfinished)

    with pytest.raises(ConfigError, match=r"some shards holds an unfinished pack by another plan .*--overwrite"):
        pack(source, unfinished, seed=1, **OPTIONS)

    assert stored(unfinished) == before


def test_a_finished_pack_is_replaced_only_with_overwrite(source: Path, url: str, tmp_path: Path):
    pack(source, url, **OPTIONS)
    before = stored(url)

    assert pack(source, url, **OPTIONS).already_packed
    with pytest.raises(ConfigError, match="some shards holds a finished pack; replace it with --overwrite"):
        pack(source, url, **{**OPTIONS, "seed": 1})
    assert stored(url) == before

    pack(source, url, overwrite=True, on_bad_sample="skip")
    assert stored(url) == contents(pack(source, tmp_path / "fresh", on_bad_sample="skip").out)


@pytest.mark.parametrize("strange", ["mine.txt", "train/deep/train-000000.tar", "other/o-000000.tar"])
def test_files_that_no_pack_wrote_are_never_overwritten(source: Path, url: str, strange: str):
    open_folder(url).write(strange, b"x")

    with pytest.raises(ConfigError, match="some shards is not empty"):
        pack(source, url, **OPTIONS)
    with pytest.raises(ConfigError, match=f"{strange} was not written by a pack, so it is not overwritten"):
        pack(source, url, overwrite=True, **OPTIONS)

    assert stored(url) == {strange: b"x"}


def test_a_pack_that_another_one_overwrites_stops_and_adds_nothing(source: Path, url: str, tmp_path: Path):
    other = {"seed": 1, "overwrite": True, "on_bad_sample": "skip"}

    def overwrite(samples: int, size: int) -> None:
        if not open_folder(url).has("manifest.json"):
            pack(source, url, **other)

    with pytest.raises(ConfigError, match="some shards was finished or overwritten by another pack meanwhile"):
        pack(source, url, workers=1, on_progress=overwrite, **OPTIONS)

    assert stored(url) == contents(pack(source, tmp_path / "out", **other).out)


def test_a_pack_that_fails_before_its_first_shard_leaves_nothing(source: Path, url: str):
    with pytest.raises(DataError, match=r"bad\.jpg is not an image"):
        pack(source, url)

    assert stored(url) == {}


def test_an_interrupted_pack_keeps_finished_shards_and_says_so(source: Path, url: str, local: dict[str, bytes]):
    left = 10

    def interrupt(samples: int, size: int) -> None:
        nonlocal left
        left -= samples
        if left < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        pack(source, url, workers=1, on_progress=interrupt, **OPTIONS)

    assert raised.value.__notes__ == [f"2 finished shards are kept in {url}; run the same command again to continue"]
    assert pack(source, url, **OPTIONS).kept == 2
    assert stored(url) == local


def test_a_store_without_conditional_writes_is_supported(
    source: Path, url: str, local: dict[str, bytes], address: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(asked: str, number: int) -> int | None:
        return 501 if asked.endswith("/plan.json") and asked.startswith("PUT") and not between.failed else None

    with proxy(address, refuse) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        pack(source, url, **OPTIONS)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    assert between.failed
    assert stored(url) == local


LARGE = 5 << 20  # two make a shard of two parts


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write images for two shards that are uploaded in two parts each."""
    return write(tmp_path / "large", {f"cat/{n}.jpg": tiny_jpeg(n) + bytes(LARGE) for n in range(4)})


def test_a_pack_killed_during_an_upload_looks_unfinished_and_can_be_resumed(
    large: Path, url: str, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    command = ["-m", "mps_shards", "pack", large, url, "--shard-samples", "2", "--workers", "1"]
    running: list[subprocess.Popen[bytes]] = []

    def kill(asked: str, number: int) -> int | None:
        if "shard-000001.tar" in asked and "partNumber=2" in asked:
            running[0].kill()
            return 500
        return None

    with proxy(address, kill) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        with subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.DEVNULL) as process:
            running.append(process)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    assert process.returncode == -9
    visible = {name for name in open_folder(url).below() if not name.startswith(".pack/")}
    assert visible == {"manifest.json.part", "shard-000000.tar"}
    assert pack(large, url, shard_samples=2).kept == 1
    assert stored(url) == contents(pack(large, tmp_path / "out", shard_samples=2).out)


def test_a_burst_of_errors_of_the_store_does_not_fail_the_pack(
    large: Path, url: str, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
):

    def first_of_each(asked: str, number: int) -> int | None:
        return 500 if asked not in between.asked else None

    with proxy(address, first_of_each) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        pack(large, open_folder(url, options=StoreOptions(attempts=4, first_wait_s=0.01)), shard_samples=2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    assert any("partNumber=2" in asked for asked in between.failed)
    assert any(asked.endswith("/plan.json") for asked in between.failed)
    assert stored(url) == contents(pack(large, tmp_path / "out", shard_samples=2).out)


@pytest.mark.parametrize(("status", "complaint"), [(403, "access denied"), (500, "gave up after 2 attempts; .* 500")])
def test_a_store_that_fails_permanently_is_named_without_secrets(
    source: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, status: int, complaint: str
):
    secret = f"s3://me:hunter2@{stores.BUCKET}/{tmp_path.name}/a b?signature=hunter2"

    with proxy(
        address, lambda asked, number: status if asked.startswith("PUT") and ".tar" in asked else None
    ) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        with pytest.raises(StorageError, match=rf"/a b/.*\.tar: {complaint}") as raised:
            pack(source, open_folder(secret, options=StoreOptions(attempts=2, first_wait_s=0.01)), **OPTIONS)
        with pytest.raises(ShardsError) as committed:
            commit(secret)

    reported = [*traceback.format_exception(raised.value), *traceback.format_exception(committed.value)]
    assert not [line for line in reported if "hunter2" in line]


def test_the_command_prints_the_url_without_secrets(source: Path, tmp_path: Path, address: str):
    shown = f"s3://{stores.BUCKET}/{tmp_path.name}/a b"
    arguments = ["pack", source, f"{shown}?signature=hunter2", "--on-bad-sample", "skip", "--work-dir", tmp_path]

    said = commands.run(*arguments)
    as_json = commands.run(*arguments, "--overwrite", "--json")

    assert said.stdout.splitlines()[0].startswith(f"{shown}: 30 samples in 1 shard")
    assert f"see {shown}/skipped.jsonl" in said.stdout
    assert json.loads(as_json.stdout)["out"] == shown
    assert "hunter2" not in f"{said}{as_json}"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "options", "complaint"),
    [
        ("https://me:pw@host/out?sig=1", {}, r"^https://host/out: web servers cannot be written to"),
        ("s3://bucket/a.tar", {}, "s3://bucket/a.tar names a tar, but a folder is needed"),
        ("s3:/bucket/out", {}, "write a URL with s3://"),
        ("s3://", {}, "names no bucket"),
        ("nowhere://x/y", {}, "neither obstore nor fsspec supports nowhere:"),
        ("here", {"work_dir": "there"}, "work_dir is only for a destination with a URL"),
    ],
)
def test_invalid_destinations_are_refused(source: Path, out: str, options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        pack(source, out, **options)


def test_a_missing_bucket_is_an_error_that_names_it(source: Path, address: str):
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/out: .*404 Not Found"):
        pack(source, "s3://no-such-bucket/out", **OPTIONS)


def test_a_missing_work_folder_is_an_error_that_names_it(source: Path, url: str, tmp_path: Path):
    with pytest.raises(StorageError, match=r"cannot write .*/nowhere: No such file or directory"):
        pack(source, url, work_dir=tmp_path / "nowhere", **OPTIONS)
    assert stored(url) == {}
