"""Local folders: a file is written completely or not at all, and errors name the file."""

import errno
import os
from pathlib import Path

import pytest

from mps_shards.errors import StorageError
from mps_shards.storage.disk_sync import sync_folder
from mps_shards.storage.local_disk import LocalFolder, replacing


def test_a_file_appears_complete_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "x.tar"

    with replacing(path) as file:
        file.write(b"abc")
        assert not path.exists()

    assert path.read_bytes() == b"abc"
    assert os.listdir(tmp_path) == ["x.tar"]


@pytest.mark.parametrize("failure", [ValueError("ours"), KeyboardInterrupt(), StorageError("theirs"), SystemExit(143)])
def test_a_block_that_fails_leaves_nothing_and_raises_its_own_error(tmp_path: Path, failure: BaseException):
    with pytest.raises(type(failure)) as raised, replacing(tmp_path / "x.tar") as file:
        file.write(b"abc")
        raise failure

    assert raised.value is failure
    assert os.listdir(tmp_path) == []


def test_a_block_that_fails_leaves_an_older_file_as_it_was(tmp_path: Path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"old")

    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.tar"]


def test_a_full_disk_is_named_as_the_cause(tmp_path: Path):
    with pytest.raises(StorageError, match=r"cannot write .*x\.tar: the disk is full"), replacing(tmp_path / "x.tar"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_does_not_name_this_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "x.tar"):
        (tmp_path / "other").read_bytes()


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    complaint = r"cannot write .*x\.tar: No such file or directory"
    with pytest.raises(StorageError, match=complaint), replacing(tmp_path / "missing" / "x.tar"):
        raise AssertionError("the block must not run")


def test_a_folder_in_place_of_a_file_is_an_error_that_names_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "inner").mkdir()
    folder = LocalFolder(tmp_path)

    for name, complaint in [
        ("gone", "gone: No such file or directory"),
        ("inner", "is not a regular file"),
        ("pipe", "is not a regular file"),
    ]:
        with pytest.raises(StorageError, match=complaint):
            folder.size(name)
    for read in (
        lambda name: folder.read_file(name, max_bytes=9),
        folder.open_stream,
        lambda name: folder.map_file(name, max_bytes=9),
        lambda name: sync_folder(tmp_path / name),
    ):
        with pytest.raises(StorageError, match="gone: No such file or directory"):
            read("gone")


def test_a_small_file_is_read_and_a_large_file_is_refused_with_both_sizes(tmp_path: Path):
    (tmp_path / "manifest.json").write_bytes(b"12345")
    folder = LocalFolder(tmp_path)

    assert folder.read_file("manifest.json", max_bytes=5) == b"12345"
    with pytest.raises(StorageError, match=r"manifest\.json has 5 bytes, but at most 4 are accepted"):
        folder.read_file("manifest.json", max_bytes=4)
