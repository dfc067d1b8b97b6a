"""What a user names as shards is found, or refused with the reason."""

import os
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.location import Location, locate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.tar", "b.tar", "other/c.tar", "with space/d:1.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_directory_stands_for_all_that_it_holds(folder: Path):
    assert locate([folder]) == locate([str(folder)]) == locate([f"{folder}/"]) == [Location(folder)]


def test_tars_that_follow_each_other_in_one_folder_are_taken_together_in_order(folder: Path):
    named = [folder / name for name in ("b.tar", "a.tar", "other/c.tar", "a.tar")]

    assert locate(named) == [
        Location(folder, ("b.tar", "a.tar")),
        Location(folder / "other", ("c.tar",)),
        Location(folder, ("a.tar",)),
    ]


def test_a_tar_behind_its_own_folder_is_a_choice_of_its_own(folder: Path):
    assert locate([folder, folder / "a.tar"]) == [Location(folder), Location(folder, ("a.tar",))]


def test_a_relative_path_is_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    assert locate(["other", "a.tar"]) == [Location(folder / "other"), Location(folder, ("a.tar",))]


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://localhost{}", "FILE://{}"])
def test_a_file_url_is_a_path(folder: Path, form: str):
    assert locate([form.format(folder / "a.tar")]) == [Location(folder, ("a.tar",))]


def test_a_colon_inside_a_path_makes_no_url_of_it(folder: Path):
    assert locate([folder / "with space" / "d:1.tar"]) == [Location(folder / "with space", ("d:1.tar",))]


@pytest.mark.parametrize(
    "url", ["s3://bucket/x.tar", "https://host/x.tar", "gs://b", "hf://d/x", "pipe:cat x.tar", "S3://bucket", "az:x"]
)
def test_a_url_is_refused_by_its_scheme(url: str):
    with pytest.raises(ConfigError, match=r"reads shards from local disks only, not \w+:") as raised:
        locate([url])
    assert str(raised.value).startswith(url)


def test_a_path_that_is_not_there_is_named_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    with pytest.raises(StorageError, match=r"^gone\.tar: no such file or directory$"):
        locate(["a.tar", "gone.tar"])


def test_a_dangling_link_is_not_there(folder: Path):
    os.symlink(folder / "gone", folder / "link.tar")

    with pytest.raises(StorageError, match=r"link\.tar: no such file"):
        locate([folder / "link.tar"])


def test_nothing_named_is_an_error_that_says_what_could_be():
    with pytest.raises(ConfigError, match="give a directory of shards, a tar file, or a list"):
        locate([])
