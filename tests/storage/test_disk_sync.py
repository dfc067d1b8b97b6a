"""Syncing of files and folders, and batches of files that appear together."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage import disk_sync
from mps_shards.storage.disk_sync import make_folder, sync_descriptor, sync_files
from mps_shards.storage.file_batch import FileBatch

FULL_SYNC = 51  # the number that macOS gives it


def fake_macos(monkeypatch: pytest.MonkeyPatch, full_sync: Callable[[int, int], object]) -> list[int]:
    """Give this system a full sync; returns the list to which each plain fsync adds its descriptor."""
    plain: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_SYNC, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full_sync)
    monkeypatch.setattr(os, "fsync", plain.append)
    return plain


def test_on_macos_a_sync_reaches_the_disk_and_not_only_the_cache_of_the_drive(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, int]] = []
    plain = fake_macos(monkeypatch, lambda descriptor, command: asked.append((descriptor, command)))

    sync_descriptor(7)

    assert (asked, plain) == ([(7, FULL_SYNC)], [])


def test_where_a_full_sync_is_not_supported_a_plain_one_is_made(monkeypatch: pytest.MonkeyPatch):
    def full_sync(descriptor: int, command: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    plain = fake_macos(monkeypatch, full_sync)

    sync_descriptor(7)

    assert plain == [7]


def test_a_full_sync_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def full_sync(descriptor: int, command: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fake_macos(monkeypatch, full_sync)

    with pytest.raises(OSError, match="Input/output error"):
        sync_descriptor(7)


def test_of_many_files_only_the_last_empties_the_cache_of_the_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"x")
    asked: list[int] = []
    plain = fake_macos(monkeypatch, lambda descriptor, command: asked.append(descriptor))

    sync_files(paths)
    sync_files([])

    assert (len(plain), len(asked)) == (2, 1)


def test_a_file_that_cannot_be_synced_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match="gone: No such file or directory"):
        sync_files([tmp_path / "gone", tmp_path])


def test_folders_that_are_made_are_synced_with_the_ones_above_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[Path] = []
    monkeypatch.setattr(disk_sync, "sync_folder", synced.append)

    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")

    assert (tmp_path / "a/b").is_dir()
    assert sorted(synced) == [tmp_path, tmp_path / "a"]


def test_a_folder_cannot_be_made_where_a_file_is(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"")

    with pytest.raises(StorageError, match="x: File exists"):
        make_folder(tmp_path / "x")


def test_files_of_a_batch_appear_together_when_it_ends(tmp_path: Path):
    with FileBatch() as batch:
        for name in "ab":
            batch.add(tmp_path / name, name.encode(), part=tmp_path / f"{name}.part")
        assert sorted(os.listdir(tmp_path)) == ["a.part", "b.part"]
        assert batch.waiting(tmp_path) == {"a", "b"}

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"a", "b": b"b"}


def test_a_batch_that_is_left_by_an_error_keeps_what_was_written(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), FileBatch() as batch:
        batch.add(tmp_path / "a", b"a", part=tmp_path / "a.part")
        raise ZeroDivisionError

    assert os.listdir(tmp_path) == ["a"]


def test_a_batch_that_cannot_be_synced_lets_no_file_appear_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(disk_sync, "sync_descriptor", fail)

    with pytest.raises(StorageError, match=r"\.part: Input/output error"), FileBatch() as batch:
        for name in "ab":
            batch.add(tmp_path / name, b"x", part=tmp_path / f"{name}.part")

    assert os.listdir(tmp_path) == []


def test_a_large_batch_is_not_held_back_to_the_end(tmp_path: Path):
    with FileBatch() as batch:
        for number in range(300):
            batch.add(tmp_path / f"{number}", b"x", part=tmp_path / f"{number}.part")
        assert not (tmp_path / "0.part").exists() and (tmp_path / "0").exists()
