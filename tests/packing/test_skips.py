"""A file that cannot become a sample stops the pack, or is always left out, counted and listed."""

import errno
import json
import os
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import DataError, StorageError
from tests.support.files import contents
from tests.support.images import class_folders, write

PAGE = b"<html>not found</html>"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=2, each=6)
    return write(tmp_path / "imgs", {"class-0/bad.jpg": PAGE, "class-1/bad.jpg": PAGE})


def test_skipped_images_are_counted_and_listed(source: Path, tmp_path: Path):
    report = pack(source, tmp_path / "out", on_bad_sample="skip", shard_samples=4, workers=2)

    assert [skip.path for skip in report.skipped] == ["class-0/bad.jpg", "class-1/bad.jpg"]
    lines = list(map(json.loads, (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()))
    assert lines == [{"path": skip.path, "reason": skip.reason} for skip in report.skipped]
    assert lines[0]["reason"].startswith("class-0/bad.jpg is an HTML page, not an image: its download failed")
    assert (report.sets[0].samples, report.sets[0].classes) == (12, {"class-0": 6, "class-1": 6})
    keys = [
        key for _, _, keys in ShardDataset(tmp_path / "out", batch_size=5, keys=True, remainder="keep") for key in keys
    ]
    assert len(keys) == 12 and not any("bad" in key for key in keys)


def test_without_skipped_images_there_is_no_list(tmp_path: Path):
    class_folders(tmp_path / "imgs")

    pack(tmp_path / "imgs", on_bad_sample="skip")

    assert not (tmp_path / "imgs-shards" / "skipped.jsonl").exists()


def test_skips_are_the_same_wherever_the_source_lies_and_whoever_packs(source: Path, tmp_path: Path):
    pack(source, tmp_path / "one", on_bad_sample="skip", shard_samples=3, workers=1)
    moved = source.rename(tmp_path / "elsewhere")
    pack(moved, tmp_path / "two", on_bad_sample="skip", shard_samples=3, workers=2)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_shard_without_good_images_is_not_written(source: Path, tmp_path: Path):
    report = pack(source, tmp_path / "out", on_bad_sample="skip", shard_samples=1)

    assert report.sets[0].shards == len(list((tmp_path / "out").glob("*.tar"))) == 12
    assert len(list(ShardDataset(tmp_path / "out", batch_size=None))) == 12


def test_a_set_without_any_good_image_is_an_error(tmp_path: Path):
    source = write(tmp_path / "imgs", {"train/cat/x.jpg": PAGE})

    with pytest.raises(DataError, match=r"out/train would be empty: all 1 images were skipped"):
        pack(source, tmp_path / "out", on_bad_sample="skip")


def test_a_failed_pack_can_be_continued_with_skipping(source: Path, tmp_path: Path):
    options = {"shard_samples": 1, "shuffle": False, "workers": 1}
    with pytest.raises(DataError, match=r"class-0/bad\.jpg is an HTML page") as failure:
        pack(source, tmp_path / "out", **options)

    assert "continue with --on-bad-sample skip" in failure.value.__notes__[0]
    assert pack(source, tmp_path / "out", on_bad_sample="skip", **options).kept >= 6
    pack(source, tmp_path / "undisturbed", on_bad_sample="skip", **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_shards_with_skipped_images_are_made_again_if_nothing_may_be_skipped(source: Path, tmp_path: Path):
    task = {"executor": "array", "task_index": 0, "num_tasks": 2}
    pack(source, tmp_path / "out", on_bad_sample="skip", shard_samples=14, shuffle=False, **task)

    with pytest.raises(DataError, match=r"bad\.jpg is an HTML page"):
        pack(source, tmp_path / "out", shard_samples=14, shuffle=False)


@pytest.mark.parametrize("name", ["scandir", "stat"])
def test_a_failing_disk_is_an_error_and_not_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    class_folders(tmp_path / "imgs", classes=2, each=2)
    real = getattr(os, name)

    def failing(path, *arguments, **options):
        if str(path).rstrip("/").endswith("class-1" if name == "scandir" else "class-1/00.jpg"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, name, failing)

    with pytest.raises(StorageError, match=r"class-1.*: Input/output error"):
        pack(tmp_path / "imgs", tmp_path / "out", on_bad_sample="skip")
    assert not (tmp_path / "out").exists()
