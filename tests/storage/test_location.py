"""Parsing of the locations that a user gives as shards."""

import os
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.folder import Folder
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location, locate, open_folder
from mps_shards.storage.store_folder import StoreFolder
from mps_shards.storage.urls import Prefix


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.tar", "b.tar", "other/c.tar", "with space/d:1.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_directory_stands_for_all_its_tars(folder: Path):
    assert locate([folder]) == locate([str(folder)]) == locate([f"{folder}/"]) == [Location(LocalFolder(folder))]


def test_successive_tars_of_one_folder_form_one_location(folder: Path):
    named = [folder / name for name in ("b.tar", "a.tar", "other/c.tar", "a.tar")]

    assert locate(named) == [
        Location(LocalFolder(folder), ("b.tar", "a.tar")),
        Location(LocalFolder(folder / "other"), ("c.tar",)),
        Location(LocalFolder(folder), ("a.tar",)),
    ]


def test_a_tar_after_its_folder_is_a_separate_location(folder: Path):
    assert locate([folder, folder / "a.tar"]) == [
        Location(LocalFolder(folder)),
        Location(LocalFolder(folder), ("a.tar",)),
    ]


def test_a_relative_path_is_made_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    assert locate(["other", "a.tar"]) == [
        Location(LocalFolder(folder / "other")),
        Location(LocalFolder(folder), ("a.tar",)),
    ]


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "file://localhost{}", "FILE://{}"])
def test_a_file_url_is_a_path(folder: Path, form: str):
    assert locate([form.format(folder / "a.tar")]) == [Location(LocalFolder(folder), ("a.tar",))]


def test_a_path_with_a_colon_is_not_a_url(folder: Path):
    assert locate([folder / "with space" / "d:1.tar"]) == [Location(LocalFolder(folder / "with space"), ("d:1.tar",))]


@pytest.mark.parametrize(
    ("url", "folder", "name"),
    [
        ("s3://bucket/a/x-0.tar", "s3://bucket/a", "x-0.tar"),
        ("S3://bucket/a/", "s3://bucket/a", None),
        ("gs://bucket", "gs://bucket", None),
        ("az://account/box/x.tar.gz", "az://account/box", "x.tar.gz"),
        ("https://host/a%20b/x%20y.tar", "https://host/a%20b", "x y.tar"),
        ("https://me:word@host/x.TAR?sig=1", "https://me:word@host?sig=1", "x.TAR"),
        ("memory://set/", "memory://set", None),
    ],
)
def test_a_url_with_the_extension_of_a_tar_names_a_tar_and_any_other_a_folder(url: str, folder: str, name: str | None):
    assert locate([url]) == [Location(open_folder(folder), (name,) if name else None)]


def test_successive_tars_of_one_prefix_form_one_location():
    urls = [f"s3://bucket/a/{name}.tar" for name in "xy"]

    assert locate([*urls, "s3://bucket/b/x.tar"]) == [
        Location(open_folder("s3://bucket/a"), ("x.tar", "y.tar")),
        Location(open_folder("s3://bucket/b"), ("x.tar",)),
    ]


def test_passwords_and_signatures_are_not_shown():
    located = locate(["https://me:word@host/a/x.tar?sig=secret"])

    assert "https://host/a" in str(located[0].folder)
    assert not any(secret in f"{located}{located[0].folder}" for secret in ("word", "secret"))


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("pipe:cat x.tar", "pipe: runs a shell command, which a list of shards must not do"),
        ("gopher://host/x.tar", "gopher://host: neither obstore nor fsspec supports gopher:"),
        ("az:x", "az:x: write a URL with az://"),
    ],
)
def test_a_url_with_an_unknown_scheme_is_refused(url: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        locate([url])


@pytest.mark.parametrize("url", ["s3://", "https:///x.tar"])
def test_a_url_without_a_host_or_bucket_is_refused(url: str):
    with pytest.raises(ConfigError, match="names no"):
        locate([url])


def test_a_missing_path_is_named_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)

    with pytest.raises(StorageError, match=r"^gone\.tar: no such file or directory$"):
        locate(["a.tar", "gone.tar"])


def test_a_dangling_link_is_reported_as_missing(folder: Path):
    os.symlink(folder / "gone", folder / "link.tar")

    with pytest.raises(StorageError, match=r"link\.tar: a link to .*gone, which does not exist"):
        locate([folder / "link.tar"])


def test_an_empty_list_is_an_error_that_says_what_to_give():
    with pytest.raises(ConfigError, match="give a directory of shards, a tar file, or a list"):
        locate([])


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("not/there", LocalFolder(Path("not/there"))),
        (Path("not/there"), LocalFolder(Path("not/there"))),
        ("file:///not/there.tar", LocalFolder(Path("/not/there.tar"))),
        ("S3://bucket/a b/", StoreFolder(Prefix("s3://bucket/a b"))),
        ("local:///not/there", StoreFolder(Prefix("local:///not/there"))),
    ],
)
def test_a_folder_for_writing_need_not_exist(named: str | Path, found: Folder):
    assert open_folder(named) == found


def test_a_prefix_with_a_space_shows_no_secret():
    assert str(Prefix("s3://me:hunter2@bucket/a b?signature=hunter2")) == "s3://bucket/a b"
