"""Duplicates are images with equal bytes, in any folder and split."""

import os
from pathlib import Path

import pytest

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError
from tests.support.files import contents
from tests.support.images import tiny_jpeg, write

ONE, TWO = tiny_jpeg(1), tiny_jpeg(2)
# another file with the size and the last bytes of ONE
ALIKE = ONE + bytes(5000), ONE[:15] + b"!" + ONE[16:] + bytes(5000)


def keys(folder: Path) -> set[str]:
    return {key for _, _, keys in ShardDataset(folder, batch_size=1, keys=True) for key in keys}


def test_duplicates_are_reported_and_kept(tmp_path: Path):
    files = {
        "cat/a.jpg": ONE,
        "cat/b.jpg": ONE,
        "dog/a.jpg": ONE,
        "dog/b.jpg": TWO,
        "dog/c.jpg": TWO,
        "dog/d.jpg": ALIKE[0],
        "dog/e.jpg": ALIKE[1],
    }

    report = pack(write(tmp_path / "imgs", files))

    found = report.duplicates
    assert (found.images, found.dropped) == (3, False)
    assert found.pairs == (("cat/a.jpg", "cat/b.jpg"), ("cat/a.jpg", "dog/a.jpg"), ("dog/b.jpg", "dog/c.jpg"))
    assert (found.conflicts, found.conflicting) == (1, (("cat/a.jpg", "dog/a.jpg"),))
    assert report.sets[0].samples == 7


def test_dropping_keeps_the_first_by_path(tmp_path: Path):
    files = {"dog/a.jpg": ONE, "cat/b.jpg": ONE, "cat/c.jpg": ONE, "dog/b.jpg": TWO}

    report = pack(write(tmp_path / "imgs", files), drop_duplicates=True)

    assert keys(report.out) == {"cat/b", "dog/b"}
    assert (report.duplicates.images, report.duplicates.dropped) == (2, True)
    assert report.sets[0].classes == {"cat": 1, "dog": 1}


def test_dropping_gives_the_same_bytes_each_time(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"cat/{n}.jpg": tiny_jpeg(n % 7) for n in range(30)})

    for name in ("one", "two"):
        pack(source, tmp_path / name, drop_duplicates=True, shard_samples=3, workers=2)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(keys(tmp_path / "one")) == 7


def test_duplicates_are_found_across_splits(tmp_path: Path):
    source = write(tmp_path / "imgs", {"train/cat/a.jpg": ONE, "val/cat/a.jpg": ONE, "val/cat/b.jpg": TWO})

    report = pack(source, drop_duplicates=True)

    assert report.duplicates.pairs == (("train/cat/a.jpg", "val/cat/a.jpg"),)
    assert [each.samples for each in report.sets] == [1, 1]


def test_a_split_that_only_repeats_another_is_named(tmp_path: Path):
    source = write(tmp_path / "imgs", {"train/cat/a.jpg": ONE, "val/cat/a.jpg": ONE})

    with pytest.raises(ConfigError, match="split 'val' would be empty"):
        pack(source, drop_duplicates=True)


@pytest.mark.skipif(os.name != "posix" or os.uname().sysname == "Darwin", reason="file names that are no UTF-8")
def test_undecodable_names_are_shown_with_escapes(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/a.jpg": ONE, os.fsdecode(b"cat/b\xff.jpg"): ONE})

    report = pack(source)

    assert report.duplicates.pairs == (("cat/a.jpg", r"cat/b\xff.jpg"),)
