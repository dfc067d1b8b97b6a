"""Verification names the kind and the place of every damage, and finds no problem in a good set."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import pack
from mps_shards.errors import ManifestError, StorageError
from mps_shards.shards.manifest import manifest_bytes
from mps_shards.shards.sample_index import index_bytes
from mps_shards.shardset.verification import VerifyReport, verify
from tests.support.damage import copied, cut, flip, manifest_of, row_of, swap
from tests.support.images import class_folders, write
from tests.support.sets import shard_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copied([4, 4, 4], tmp_path / "set")


def kinds(report: VerifyReport) -> set[str]:
    return {problem.kind for problem in report.problems}


def reported(report: VerifyReport, kind: str) -> list[tuple[str, str | None]]:
    """Return files and keys of the problems of a kind."""
    return [(problem.where, problem.key) for problem in report.problems if problem.kind == kind]


def second(folder: Path) -> Path:
    return folder / "s-000001.tar"


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("workers", [None, 1, 3])
def test_a_good_set_has_no_problems(workers: int | None, decode: bool):
    report = verify(shard_set([4, 0, 4]), workers=workers, decode=decode)

    assert report.problems == ()
    assert (report.shards, report.samples, report.decoded) == (3, 8, decode)


def test_an_empty_set_has_no_problems():
    assert verify(shard_set([])).problems == ()


def test_a_packed_folder_has_no_problems(tmp_path: Path):
    class_folders(tmp_path / "imgs")

    report = verify(pack(tmp_path / "imgs", shard_samples=5).out, decode=True)

    assert (report.problems, report.samples) == ((), 12)


def test_progress_adds_up_to_what_was_announced(folder: Path):
    announced: list[int] = []
    progress: list[int] = []

    report = verify(folder, on_start=announced.append, on_progress=progress.append)

    assert announced == [sum(progress)] == [report.bytes]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda folder: second(folder).unlink(), "s-000001.tar"),
    "extra shard": (lambda folder: shutil.copy(second(folder), folder / "s-9.tar"), "s-9.tar"),
    "truncated shard": (lambda folder: cut(second(folder), 3000), "s-000001.tar"),
    "wrong size": (lambda folder: second(folder).write_bytes(second(folder).read_bytes() + bytes(512)), "s-000001.tar"),
    "wrong digest": (lambda folder: flip(second(folder), 1100), "s-000001.tar"),
    "damaged sample": (lambda folder: flip(second(folder), 1100), "s-000001.tar"),
    "damaged": (lambda folder: flip(second(folder), 5), "s-000001.tar"),
    "swapped shards": (lambda folder: swap(second(folder), folder / "s-000000.tar"), "s-000000.tar"),
    "wrong count": (
        lambda folder: second(folder).write_bytes(shard_set([3]).joinpath("s-000000.tar").read_bytes()),
        "s-000001.tar",
    ),
    "stale index": (lambda folder: flip(folder / "index.npy", 200), "index.npy"),
    "unfinished file": (lambda folder: (folder / "s-000002.tar.part").touch(), "s-000002.tar.part"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_its_file_is_named(folder: Path, kind: str):
    damage, where = DAMAGE[kind]
    damage(folder)

    report = verify(folder)

    assert where in [file for file, _ in reported(report, kind)], report.problems


def test_a_flipped_bit_is_found_in_its_sample(folder: Path):
    offset, size, _ = row_of(folder, 6)

    flip(second(folder), offset + size - 600)

    assert reported(verify(folder), "damaged sample") == [("s-000001.tar", "s00006")]


@settings(max_examples=30)
@given(shard=st.integers(0, 2), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, shard: int, place: float, bit: int):
    folder = copied([2, 2, 2], tmp_path_factory.mktemp("flip") / "set")
    path = folder / f"s-{shard:06d}.tar"

    flip(path, int(place * path.stat().st_size), 1 << bit)

    assert {problem.where for problem in verify(folder).problems} == {path.name}


@settings(max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_found(tmp_path_factory: pytest.TempPathFactory, place: float):
    folder = copied([3], tmp_path_factory.mktemp("cut") / "set")
    path = folder / "s-000000.tar"

    cut(path, int(place * path.stat().st_size))

    assert "truncated shard" in kinds(verify(folder))


def test_samples_after_the_end_of_a_truncated_shard_are_counted(folder: Path):
    offset, size, _ = row_of(folder, 5)
    cut(second(folder), offset + size + 100)

    report = verify(folder)

    assert reported(report, "damaged sample") == []
    assert [problem.detail for problem in report.problems if problem.kind == "lost samples"] == [
        "2 of its samples, from number 2 on, are after its end"
    ]


def test_samples_after_a_damaged_header_are_not_reported_as_damaged(folder: Path):
    offset, _, _ = row_of(folder, 5)
    flip(second(folder), offset + 20)

    report = verify(folder)

    assert [problem.sample for problem in report.problems if problem.kind == "damaged sample"] == [1]


def test_a_key_in_two_shards_is_reported_with_both_shards(tmp_path: Path):
    twice = write(tmp_path / "imgs", {"a/x.jpg": b"\xff\xd8\xff1", "a/y.jpg": b"\xff\xd8\xff2"})
    folder = pack(twice, shard_samples=1, shuffle=False, check=False).out
    shutil.copy(folder / "shard-000000.tar", folder / "shard-000001.tar")

    report = verify(folder)

    assert reported(report, "duplicate key") == [("shard-000001.tar", "a/x")]
    assert "shard-000000.tar also holds the key 'a/x'" in [problem.detail for problem in report.problems]


def test_an_index_with_wrong_rows_is_stale_even_if_its_digest_matches(folder: Path):
    rows = np.load(folder / "index.npy")
    rows[7]["crc32"] ^= 1
    content = index_bytes([rows])
    (folder / "index.npy").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest = msgspec.structs.replace(manifest_of(folder), index_sha256=digest)
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))

    stale = [problem for problem in verify(folder).problems if problem.kind == "stale index"]

    assert [(problem.where, problem.sample) for problem in stale] == [("s-000001.tar", 3)]


def test_images_that_cannot_be_decoded_are_found_with_decode():
    folder = shard_set([3, 3], broken=[4])

    assert verify(folder).problems == ()
    assert reported(verify(folder, decode=True), "undecodable") == [("s-000001.tar", "s00004")]


def test_labels_beyond_the_classes_are_found(tmp_path: Path):
    folder = copied([4], tmp_path / "set")
    fewer = msgspec.structs.replace(manifest_of(folder), classes=("cat", "dog"))
    (folder / "manifest.json").write_bytes(manifest_bytes(fewer))

    report = verify(folder)

    assert [(problem.sample, problem.detail) for problem in report.problems] == [
        (2, "label 2 is not a class: the set has 2 classes")
    ]


def test_what_is_no_set_is_an_error(tmp_path: Path, folder: Path):
    (folder / "manifest.json").rename(folder / "manifest.json.part")
    with pytest.raises(StorageError, match="holds an unfinished pack"):
        verify(folder)
    with pytest.raises(StorageError, match="no such directory"):
        verify(tmp_path / "gone")
    with pytest.raises(ManifestError, match=r"has no manifest\.json; it is not a finished shard set"):
        verify(write(tmp_path / "bare", {"x": b"x"}))
