"""labels.npy: written by pack and index, verified, repaired, and read from the shards if the file is missing."""

import logging
from pathlib import Path

import numpy as np
import pytest

from mps_shards import pack
from mps_shards.errors import ConfigError, DecodeError, ManifestError
from mps_shards.shards.manifest import manifest_bytes
from mps_shards.shards.sample_labels import LABELS_NAME, labels_bytes
from mps_shards.shardset.indexing import adopt, index_labels
from mps_shards.shardset.repairs import repair
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.shardset.verification import verify
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location, open_folder
from tests.support.damage import copied, flip, manifest_of
from tests.support.files import contents
from tests.support.foreign import by_tarfile
from tests.support.images import tiny_jpeg, write
from tests.support.sets import foreign_tars, shard_set
from tests.support.web import web

COUNTS = [3, 0, 2, 4]
LABELS = [n % 3 for n in range(9)]


def opened(folder: Path, *names: str) -> ShardSet:
    return ShardSet(Location(LocalFolder(folder), names or None))


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Foreign tars with the index that `mps-shards index` makes, labels.npy included."""
    folder = tmp_path / "set"
    write(folder, contents(foreign_tars(COUNTS)))
    adopt(folder, classes=["cat", "dog", "fox"])
    return folder


def test_pack_writes_the_class_of_each_sample_in_index_order(tmp_path: Path):
    write(tmp_path / "imgs", {f"{name}/{n}.jpg": tiny_jpeg(n) for name in ("a", "b") for n in range(6)})
    pack(tmp_path / "imgs", tmp_path / "out", shard_samples=5)

    labels = np.load(tmp_path / "out" / LABELS_NAME)

    data = opened(tmp_path / "out")
    assert labels.dtype == np.int32
    assert labels.tolist() == [data.read(number).label() for number in range(12)]
    assert sorted(labels) == [0] * 6 + [1] * 6
    assert verify(tmp_path / "out").problems == ()


def test_pack_without_classes_writes_no_labels(tmp_path: Path):
    write(tmp_path / "imgs", {f"{n}.jpg": tiny_jpeg(n) for n in range(3)})
    pack(tmp_path / "imgs", tmp_path / "out")

    assert not (tmp_path / "out" / LABELS_NAME).exists()
    assert b"labels_sha256" not in (tmp_path / "out" / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="is for unlabeled; only sets for classification"):
        opened(tmp_path / "out").labels()


def test_labels_come_from_the_file_and_no_tar_is_read(indexed: Path, caplog: pytest.LogCaptureFixture):
    data = opened(indexed)
    for tar in indexed.glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))

    assert data.labels().tolist() == LABELS
    assert data.labels().dtype == np.int32
    assert not caplog.records


def test_labels_of_chosen_tars_follow_their_order(indexed: Path):
    data = opened(indexed, "s-000003.tar", "s-000000.tar")

    assert data.labels().tolist() == LABELS[5:] + LABELS[:3]


def test_a_set_without_the_file_gets_labels_from_its_tars_and_says_so(caplog: pytest.LogCaptureFixture):
    folder = shard_set(COUNTS)

    with caplog.at_level(logging.WARNING, "mps_shards"):
        labels = [opened(folder).labels().tolist(), opened(folder, "s-000002.tar").labels().tolist()]

    assert labels == [LABELS, LABELS[3:5]]
    assert f"{folder} has no labels.npy for these labels: reading 9 labels from its shards" in caplog.text


def test_labels_of_a_store(indexed: Path):
    with web(indexed) as server, web(shard_set(COUNTS)) as older:
        assert ShardSet(Location(open_folder(server.url))).labels().tolist() == LABELS
        assert not any(asked.name.endswith(".tar") for asked in server.asked)
        assert ShardSet(Location(open_folder(older.url))).labels().tolist() == LABELS


def test_a_label_that_is_not_a_number_is_an_error(tmp_path: Path):
    by_tarfile(tmp_path / "x.tar", {"a": {"cls": b"0", "jpg": tiny_jpeg(0)}, "b": {"cls": b"1", "jpg": tiny_jpeg(1)}})
    adopt(tmp_path)
    (tmp_path / LABELS_NAME).unlink()
    strip_labels(tmp_path)
    tar = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(tar.replace(b"1" + bytes(511), b"x" + bytes(511)))

    with pytest.raises(DecodeError, match=r"sample 'b' of shard x.tar: label b'x' is not a class number"):
        opened(tmp_path).labels()


def test_index_adds_labels_to_a_set_that_lacks_them(tmp_path: Path):
    folder = copied(COUNTS, tmp_path / "set")
    fingerprint = manifest_of(folder).fingerprint

    assert index_labels(LocalFolder(folder)) == 9
    assert index_labels(LocalFolder(folder)) is None

    assert np.load(folder / LABELS_NAME).tolist() == LABELS
    assert manifest_of(folder).fingerprint == fingerprint
    assert verify(folder).problems == ()


def test_labels_too_large_for_the_file_leave_a_set_without_the_file(tmp_path: Path):
    by_tarfile(tmp_path / "x.tar", {"a": {"cls": b"5000000000", "jpg": tiny_jpeg(0)}})

    adopt(tmp_path)

    assert not (tmp_path / LABELS_NAME).exists() and verify(tmp_path).problems == ()


def test_damaged_labels_are_found_and_repaired(indexed: Path):
    whole = contents(indexed)
    flip(indexed / LABELS_NAME, (indexed / LABELS_NAME).stat().st_size - 4)

    assert [(problem.kind, problem.where) for problem in verify(indexed).problems] == [("stale labels", LABELS_NAME)]
    with pytest.raises(ManifestError, match=r"labels.npy has SHA-256 .* its manifest says"):
        opened(indexed).labels()
    report = repair(indexed)

    assert [(step.what, step.where) for step in report.steps] == [
        ("rebuild", "index.npy, labels.npy, manifest.json"),
    ]
    assert contents(indexed) == whole


def test_a_missing_file_of_labels_is_found_and_repaired(indexed: Path):
    whole = contents(indexed)
    (indexed / LABELS_NAME).unlink()

    assert [problem.kind for problem in verify(indexed).problems] == ["stale labels"]
    repair(indexed)

    assert contents(indexed) == whole


def test_labels_that_differ_from_the_tars_are_found_even_if_the_manifest_matches_them(indexed: Path):
    content = labels_bytes([np.array([1, *LABELS[1:]])])
    assert content is not None
    (indexed / LABELS_NAME).write_bytes(content)
    strip_labels(indexed, content)

    (problem,) = verify(indexed).problems

    assert (problem.kind, problem.where, problem.sample) == ("stale labels", "s-000000.tar", 0)
    assert problem.detail == "the class is 1 in labels.npy and 0 in the shard"
    repair(indexed)
    assert verify(indexed).problems == ()


def strip_labels(folder: Path, content: bytes | None = None) -> None:
    """Write a manifest that names these labels, or none."""
    import hashlib

    import msgspec

    digest = msgspec.UNSET if content is None else hashlib.sha256(content).hexdigest()
    manifest = msgspec.structs.replace(manifest_of(folder), labels_sha256=digest)
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))


def test_verifying_a_store_reads_its_labels(indexed: Path):
    flip(indexed / LABELS_NAME, (indexed / LABELS_NAME).stat().st_size - 4)

    with web(indexed) as server:
        assert [problem.kind for problem in verify(open_folder(server.url)).problems] == ["stale labels"]
