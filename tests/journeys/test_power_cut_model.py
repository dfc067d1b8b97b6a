"""The model of a power cut loses what POSIX lets a disk lose, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards.storage.disk_sync import make_folder, sync_folder
from mps_shards.storage.local_disk import LocalFolder, replacing
from tests.support.power_cut import recording, states

Files = dict[str, bytes | None]


def left_by(work: Callable[[Path], object], folder: Path) -> list[Files]:
    """What a disk may hold after a power cut that follows some work; each once."""
    with recording(folder) as recorded:
        work(folder)
    found: list[Files] = []
    for state in states(recorded, after=len(recorded.changes)):
        if state.files not in found:
            found.append(state.files)
    return found


def write(folder: Path, *, synced: bool) -> None:
    with (folder / "part").open("wb") as file:
        file.write(b"abcd")
        file.flush()
        if synced:
            os.fsync(file.fileno())


def test_a_file_that_is_renamed_unsynced_may_be_empty_zeros_cut_off_or_absent(tmp_path: Path):
    def work(folder: Path) -> None:
        write(folder, synced=False)
        os.rename(folder / "part", folder / "x")

    left = left_by(work, tmp_path)

    assert [files.get("x") for files in left if "part" not in files].count(b"abcd") == 1
    assert {files.get("x") for files in left} == {b"abcd", b"ab", bytes(4), b"", None}
    assert not any({"part", "x"} <= files.keys() for files in left), "a rename within a folder is made as a whole"


def test_a_synced_file_whose_folder_is_not_synced_may_be_absent_but_not_cut_off(tmp_path: Path):
    def work(folder: Path) -> None:
        write(folder, synced=True)

    assert sorted(left_by(work, tmp_path), key=len) == [{}, {"part": b"abcd"}]


def test_a_file_that_is_replaced_is_the_old_or_the_new_one(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"old")

    def work(folder: Path) -> None:
        with replacing(folder / "x") as file:
            file.write(b"new")

    assert {files["x"] for files in left_by(work, tmp_path)} == {b"old", b"new"}


def test_what_is_synced_with_its_folder_stays(tmp_path: Path):
    def work(folder: Path) -> None:
        make_folder(folder / "a/b")
        LocalFolder(folder / "a/b").write("x", b"abcd")

    assert left_by(work, tmp_path) == [{"a": None, "a/b": None, "a/b/x": b"abcd"}]


def test_what_lies_in_a_folder_that_was_never_synced_in_its_own_may_be_absent(tmp_path: Path):
    def work(folder: Path) -> None:
        (folder / "a").mkdir()
        LocalFolder(folder / "a").write("x", b"abcd")

    assert sorted(left_by(work, tmp_path), key=len) == [{}, {"a": None, "a/x": b"abcd"}]


def test_a_removed_file_may_come_back(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"old")

    assert sorted(left_by(lambda folder: (folder / "x").unlink(), tmp_path), key=len) == [{}, {"x": b"old"}]


@pytest.mark.parametrize(("synced", "may_be_lost"), [("", False), ("old", True), ("new", False)])
def test_a_file_is_lost_between_two_folders_only_if_the_old_one_alone_is_synced(
    tmp_path: Path, synced: str, may_be_lost: bool
):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old/x").write_bytes(b"abcd")

    def work(folder: Path) -> None:
        os.rename(folder / "old/x", folder / "new/x")
        if synced:
            sync_folder(folder / synced)

    left = left_by(work, tmp_path)

    assert any(not {"old/x", "new/x"} & files.keys() for files in left) == may_be_lost
