"""Packing gives equal bytes for equal input, and leaves no files when it fails."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, ShardsError, StorageError
from mps_shards.shardset.opening import read_manifest
from mps_shards.storage import local_disk as local
from mps_shards.storage.local_disk import LocalFolder
from tests.support.files import contents
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, class_folders, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=4, each=12)
    return tmp_path / "imgs"


def test_four_workers_write_the_bytes_that_one_writes(photos: Path, tmp_path: Path):
    pack(photos, tmp_path / "one", workers=1, shard_size="40kB")
    pack(photos, tmp_path / "four", workers=4, shard_size="40kB")

    assert contents(tmp_path / "one") == contents(tmp_path / "four")
    assert {"manifest.json", "index.npy"} < contents(tmp_path / "one").keys()
    assert len(contents(tmp_path / "one")) > 5


def test_time_and_place_of_packing_change_no_byte(source: Path, tmp_path: Path):
    pack(source, tmp_path / "here")
    moved = source.rename(tmp_path / "elsewhere")
    for path in moved.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o755)

    pack(moved, tmp_path / "there")

    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_another_process_writes_the_same_bytes(source: Path, tmp_path: Path):
    pack(source, tmp_path / "here", shard_samples=7)
    script = f"import mps_shards; mps_shards.pack({str(source)!r}, {str(tmp_path / 'there')!r}, shard_samples=7)"
    environ = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}

    subprocess.run([sys.executable, "-c", script], check=True, env=environ, umask=0o077)

    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_seed_changes_the_order_and_nothing_else(source: Path, tmp_path: Path):
    first, second = (pack(source, tmp_path / str(seed), seed=seed, shard_samples=9).sets[0] for seed in (0, 1))

    assert (first.samples, first.bytes, first.shards) == (second.samples, second.bytes, second.shards)
    assert first.fingerprint != second.fingerprint


def test_the_report_says_what_was_packed(source: Path, tmp_path: Path):
    write(source, {"class-0/notes.txt": b"x"})
    (source / "nothing").mkdir()

    report = pack(source, tmp_path / "out", shard_samples=20)

    assert report.layout == "class folders: 4 classes, 48 images"
    assert report.classes == ("class-0", "class-1", "class-2", "class-3")
    assert (report.ignored, report.empty) == ({".txt": 1}, ("nothing",))
    [done] = report.sets
    assert (done.folder, done.split, done.task) == (tmp_path / "out", "", "classification")
    assert (done.samples, done.shards) == (48, 3)
    assert done.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))
    assert done.fingerprint == read_manifest(LocalFolder(tmp_path / "out")).fingerprint
    assert repr(report) == f"PackReport(out='{tmp_path / 'out'}', samples=48, shards=3, seconds={report.seconds:.2f})"


@pytest.mark.parametrize("given", ["imgs", "imgs/", "./imgs", "imgs/../imgs", "imgs/class-0/.."])
def test_shards_are_put_beside_the_source_by_default(source: Path, given: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(source.parent)

    report = pack(given)

    assert str(report.out) == "imgs-shards"  # short in every line that names it
    assert pack(source).out == source.with_name("imgs-shards")
    assert (source.parent / "imgs-shards" / "manifest.json").exists()


def test_the_current_folder_can_be_packed(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(source)

    assert pack(".").out.resolve() == source.with_name("imgs-shards")


def test_progress_counts_every_sample_and_byte(source: Path, tmp_path: Path):
    told: list[tuple[int, int]] = []

    report = pack(source, tmp_path / "out", on_progress=lambda *step: told.append(step), shard_samples=5, workers=3)

    ends = report.sets[0].shards * 1024
    assert sum(samples for samples, _ in told) == 48
    assert sum(size for _, size in told) == report.sets[0].bytes - ends


def failing(source: Path, out: Path, error: type[ShardsError], complaint: str, **options) -> None:
    """Assert that packing fails with this message and leaves `out` as it was."""
    before = sorted(out.parent.iterdir()), out.exists()

    with pytest.raises(error, match=complaint):
        pack(source, out, **options)

    assert (sorted(out.parent.iterdir()), out.exists()) == before
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize("existed", [False, True])
def test_a_failure_leaves_the_destination_as_it_was(source: Path, tmp_path: Path, existed: bool):
    if existed:
        (tmp_path / "out").mkdir()
    write(source, {"class-3/broken.jpg": b"<html>not found</html>"})

    complaint = r"class-3/broken\.jpg is an HTML page, not an image: its download failed"
    failing(source, tmp_path / "out", DataError, complaint)


@pytest.mark.parametrize("name", PACKED_AS_IT_IS)
def test_every_image_that_pillow_reads_is_recognised_as_an_image(tmp_path: Path, name: str):
    source = write(tmp_path / "imgs", {f"cat/{name}": EXAMPLES[name]()})

    assert pack(source, drop_alpha=True).sets[0].samples == 1


def test_a_file_that_changed_since_it_was_listed_is_named(source: Path, tmp_path: Path):
    changed = source / "class-2" / "03.jpg"

    def grow(listing: object) -> None:
        changed.write_bytes(changed.read_bytes() + b"more")

    size = changed.stat().st_size
    complaint = rf"class-2/03\.jpg had {size} bytes when it was listed and has {size + 4} now; pack again"
    failing(source, tmp_path / "out", DataError, complaint, on_understanding=grow)


def test_a_file_that_vanished_since_it_was_listed_is_named(source: Path, tmp_path: Path):
    failing(
        source,
        tmp_path / "out",
        StorageError,
        r"cannot read .*class-1/00\.jpg: No such file or directory",
        on_understanding=lambda listing: (source / "class-1" / "00.jpg").unlink(),
    )


def test_a_file_that_may_not_be_read_is_named(source: Path, tmp_path: Path):
    locked = source / "class-1" / "00.jpg"
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")

    failing(source, tmp_path / "out", StorageError, r"cannot read .*class-1/00\.jpg: Permission denied")


def test_a_file_that_cannot_be_read_is_named(source: Path, tmp_path: Path):
    def make_a_folder_of_it(listing: object) -> None:
        (source / "class-1" / "00.jpg").unlink()
        (source / "class-1" / "00.jpg").mkdir()

    complaint = r"cannot read .*class-1/00\.jpg: Is a directory"
    failing(source, tmp_path / "out", StorageError, complaint, on_understanding=make_a_folder_of_it)


def test_a_source_that_does_not_exist_is_named(tmp_path: Path):
    (tmp_path / "file").touch()

    failing(tmp_path / "gone", tmp_path / "out", StorageError, "gone: no such file or directory")
    failing(tmp_path / "file", tmp_path / "out", StorageError, "file: not a directory")


@pytest.mark.parametrize(
    "options",
    [
        {"shard_size": "big"},
        {"shard_size": 0},
        {"shard_samples": 0},
        {"workers": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"keys": "path"},
        {"layout": "tree"},
    ],
    ids=str,
)
def test_an_option_that_cannot_work_is_refused_at_once(source: Path, tmp_path: Path, options: dict):
    failing(source, tmp_path / "out", ConfigError, str(next(iter(options.values()))), **options)


@pytest.mark.parametrize(
    ("left", "complaint"),
    [
        ({"mine.txt": b"x"}, r"out is not empty; remove it or name another place"),
        ({".hidden": b"x"}, r"out is not empty"),
        ({"shard-000000.tar": b"x"}, r"out is not empty"),
        ({"train/train-000000.tar.part": b"x"}, r"out is not empty"),
        ({"shard-000000.tar": b"x", "manifest.json": b"x"}, r"out holds a finished pack; replace it with --overwrite"),
        ({"a/shard-000000.tar": b"x", "a/manifest.json": b"x"}, r"out holds a finished pack"),
    ],
)
def test_a_destination_that_is_not_empty_is_refused_and_not_changed(
    source: Path, tmp_path: Path, left: dict[str, bytes], complaint: str
):
    out = write(tmp_path / "out", left)

    with pytest.raises(ConfigError, match=complaint):
        pack(source, out)

    assert contents(out) == left


def test_an_out_that_is_a_file_or_below_one_is_refused(source: Path, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"x")

    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ShardsError, match="file"):
            pack(source, out)
    assert (tmp_path / "file").read_bytes() == b"x"


def test_the_destination_may_be_empty_or_have_missing_parents(source: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()

    pack(source, tmp_path / "out")
    pack(source, tmp_path / "a" / "b" / "c")

    assert contents(tmp_path / "out") == contents(tmp_path / "a" / "b" / "c")


def test_the_source_is_not_packed_into_itself(source: Path):
    with pytest.raises(ConfigError, match="is not empty"):
        pack(source, source)


def test_a_failure_in_a_listener_stops_the_pack_and_is_raised(source: Path, tmp_path: Path):
    def full(samples: int, size: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pack(source, tmp_path / "out", on_progress=full, shard_samples=2)
    assert not (tmp_path / "out").exists()


def test_the_first_failure_stops_the_other_workers(source: Path, tmp_path: Path):
    class_folders(source, classes=4, each=100)
    write(source, {"class-0/00.jpg": b"no image"})
    told: list[int] = []

    with pytest.raises(DataError):
        pack(source, tmp_path / "out", on_progress=lambda *_: told.append(1), shuffle=False, shard_samples=1, workers=1)

    assert len(told) < 300  # fewer than 399: only samples that were begun before the failure was noticed


@pytest.mark.parametrize("name", ["shard-000001.tar", "index.npy", "manifest.json"])
def test_a_disk_that_is_full_at_any_file_is_named_and_can_be_emptied(
    source: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    sync = os.fsync

    def full(descriptor: int) -> None:
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).startswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to tell files by")
    with monkeypatch.context() as patched:
        patched.setattr(local.os, "fsync", full)
        with pytest.raises(StorageError, match=rf"cannot write .*{name}: the disk is full"):
            pack(source, tmp_path / "out", shard_samples=20, workers=1)
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        ShardDataset(tmp_path / "out", batch_size=1)

    kept = pack(source, tmp_path / "out", shard_samples=20).kept
    assert (
        kept in (1, 2) if name.endswith("tar") else kept == 3
    )  # the third shard may be done before the failure of the second is noticed
    pack(source, tmp_path / "undisturbed", shard_samples=20)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_packing_loads_no_torch(source: Path, tmp_path: Path):
    script = f"""
import sys, mps_shards
mps_shards.pack({str(source)!r}, {str(tmp_path / "out")!r})
print([name for name in ("torch", "torchvision", "webdataset", "pycocotools") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
