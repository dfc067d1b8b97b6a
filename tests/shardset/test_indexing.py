"""Indexing of tars from other tools: they become a set with all its features, and the tars are not changed."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mps_shards import ReadOptions, ShardDataset
from mps_shards.errors import ConfigError, DataError, ManifestError, ShardError, StorageError
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.shardset.verification import verify
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location
from tests.support.damage import copied, cut, flip
from tests.support.files import contents
from tests.support.foreign import MAKERS, by_tarfile, samples
from tests.support.images import encoded, picture, tiny_jpeg

PLAIN = [name for name in MAKERS if not {"gzip", "bzip2", "xz"} & set(name.replace(",", "").split())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tars").mkdir()
    return tmp_path / "tars"


def labelled(n: int, *, start: int = 0, image: str = "jpg") -> dict[str, dict[str, bytes]]:
    return {f"{start + k:06d}": {"cls": str(k % 3).encode(), image: tiny_jpeg(k)} for k in range(n)}


@pytest.mark.parametrize("maker", PLAIN)
def test_tars_of_any_maker_become_a_set_that_reads_the_same(maker: str, folder: Path):
    for number in range(2):
        held = {f"{number}-{key}": fields for key, fields in labelled(5).items()}
        MAKERS[maker](folder / f"x-{number}.tar", held)
    tars = {name: content for name, content in contents(folder).items() if name.endswith(".tar")}
    streamed = {
        key: (image.numpy().tobytes(), int(label))
        for image, label, key in ShardDataset(sorted(folder.glob("*.tar")), batch_size=None, keys=True)
    }

    report = adopt(folder)

    assert (report.task, report.samples, report.shards, report.largest_label) == ("classification", 10, 2, 2)
    assert tars.items() <= contents(folder).items()
    assert verify(folder, decode=True).problems == ()
    data = ShardDataset(folder, batch_size=None, keys=True, shuffle=True)
    assert {key: (image.numpy().tobytes(), int(label)) for image, label, key in data} == streamed
    assert len(data) == 10


def test_class_names_are_used_if_there_is_one_for_every_label(folder: Path):
    by_tarfile(folder / "x.tar", labelled(4))

    with pytest.raises(ConfigError, match="has labels up to 2, but only 2 classes are named"):
        adopt(folder, classes=["a", "b"])
    adopt(folder, classes=["a", "b", "c", "d"])

    assert ShardDataset(folder, batch_size=1).source.classes == ("a", "b", "c", "d")


def test_upper_case_extensions_are_images_too(folder: Path):
    by_tarfile(folder / "x.tar", labelled(3, image="JPG"))

    adopt(folder)

    assert len(list(ShardDataset(folder, batch_size=None))) == 3


def test_the_task_follows_from_the_fields(folder: Path, tmp_path: Path):
    mask = encoded(picture("L", 8, 8), "PNG")
    by_tarfile(folder / "x.tar", {"a": {"jpg": tiny_jpeg(), "mask.png": mask}})
    (tmp_path / "bare").mkdir()
    by_tarfile(tmp_path / "bare" / "x.tar", {"a": {"jpg": tiny_jpeg(), "txt": b"a cat", "json": b"{}"}})
    (tmp_path / "alone").mkdir()
    by_tarfile(tmp_path / "alone" / "x.tar", {"a": {"jpg": tiny_jpeg(), "json": b"{}"}})

    assert adopt(folder).task == "segmentation"
    assert adopt(tmp_path / "bare").task == "captions"
    assert adopt(tmp_path / "alone").task == "unlabeled"
    image, target = next(iter(ShardDataset(folder, batch_size=None)))
    assert np.asarray(target).shape == tuple(image.shape[1:])


def test_keys_that_repeat_in_every_tar_are_reported_and_stay_readable(folder: Path):
    for number in range(2):
        by_tarfile(folder / f"x-{number}.tar", labelled(4))

    report = adopt(folder)

    assert report.repeated_key == "000000"
    assert len(list(ShardDataset(folder, batch_size=None))) == 8
    assert verify(folder).problems == ()


@pytest.mark.parametrize(
    ("held", "complaint"),
    [
        ({"a": {"jpg": b"1", "cls": b"0"}, "b": {"jpg": b"1"}}, "only 1 of the 2 samples in .* have the field cls"),
        (
            {"a": {"jpg": b"1", "cls": b"0", "mask.png": b"1"}},
            "sample 'a' of shard x.tar holds 2 targets .*target=\"cls\"",
        ),
        ({"a": {"cls": b"0"}}, "sample 'a' of shard x.tar holds no image"),
        ({"a": {"jpg": b"1", "png": b"1"}}, "sample 'a' of shard x.tar holds 2 images .*image=\"jpg\""),
        ({"a": {"jpg": b"1", "cls": b"cat"}}, "label b'cat' is not a class number"),
        ({}, "hold no samples"),
    ],
)
def test_samples_with_different_targets_are_refused(folder: Path, held: dict, complaint: str):
    by_tarfile(folder / "x.tar", held)

    with pytest.raises(DataError, match=complaint):
        adopt(folder)

    assert os.listdir(folder) == ["x.tar"]


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_tars_are_refused_and_nothing_is_written(folder: Path, damage: str):
    by_tarfile(folder / "a.tar", samples(3))
    by_tarfile(folder / "b.tar", samples(3))
    cut(folder / "b.tar", 2000) if damage == "cut" else flip(folder / "b.tar", 20)

    with pytest.raises(ShardError, match=r"tars/b\.tar: .*nothing was written"):
        adopt(folder)

    assert sorted(os.listdir(folder)) == ["a.tar", "b.tar"]


@pytest.mark.parametrize("maker", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_compressed_tars_are_refused_with_what_to_do(folder: Path, maker: str, name: str):
    MAKERS[maker](folder / name, samples(2))

    with pytest.raises(ConfigError, match=rf"{name} is compressed.*decompress it \((gunzip|bunzip2|unxz) {name}\)"):
        adopt(folder)


def test_a_folder_that_cannot_be_written_to_is_refused_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch):
    by_tarfile(folder / "x.tar", labelled(2))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere

    with pytest.raises(StorageError, match="with --out, or fill a folder with links to the tars"):
        adopt(folder)


def test_manifest_and_index_may_lie_in_another_folder(folder: Path, tmp_path: Path):
    for number in range(3):
        by_tarfile(folder / f"{number}.tar", labelled(3, start=10 * number))
    tars, index = sorted(folder.glob("*.tar")), tmp_path / "index"

    adopt(Location(LocalFolder(folder), ("2.tar", "0.tar")), out=index)

    data = ShardDataset(tars[:1], batch_size=None, keys=True, read_options=ReadOptions(index=index, verify=True))
    assert [key for *_, key in data] == ["000000", "000001", "000002"] and len(data) == 3
    assert sorted(folder.iterdir()) == tars
    with pytest.raises(ManifestError, match=r"1\.tar is not listed in the manifest"):
        ShardDataset(tars, batch_size=None, read_options=ReadOptions(index=index))
    with pytest.raises(ManifestError, match=r"has a manifest\.json already; name another folder"):
        adopt(folder, out=index)
    with pytest.raises(ConfigError, match=r"a part of the tars of .* cannot be indexed in place"):
        adopt(Location(LocalFolder(folder), ("0.tar",)))


def test_links_to_tars_elsewhere_become_a_set(folder: Path, tmp_path: Path):
    by_tarfile(tmp_path / "x.tar", labelled(3))
    (folder / "x.tar").symlink_to(tmp_path / "x.tar")

    adopt(folder)

    assert verify(folder, decode=True).problems == ()
    assert len(list(ShardDataset(folder, batch_size=None))) == 3


def test_a_folder_that_is_a_set_already_or_holds_no_tars_is_refused(folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no \*\.tar"):
        adopt(folder)
    with pytest.raises(ManifestError, match=r"has a manifest\.json already"):
        adopt(copied([2], tmp_path / "set"))
    with pytest.raises(StorageError, match="no such directory"):
        adopt(tmp_path / "gone")
    (folder / "x.tar.part").touch()
    with pytest.raises(StorageError, match="unfinished"):
        adopt(folder)


JUNK = ["._000001.jpg", "__MACOSX/._000001.jpg", "__MACOSX/._000001.cls", ".DS_Store", "./.DS_Store", "d/._x.cls"]


def littered(path: Path, held: dict[str, dict[str, bytes]]) -> None:
    """Add the members that macOS, GNU tar --label and recursive tars add, between all members."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        label = tarfile.TarInfo("backup of May")
        label.type = b"V"
        tar.addfile(label)
        for key, fields in held.items():
            for name, content in fields.items():
                for junk in JUNK:
                    info = tarfile.TarInfo(junk)
                    info.size = 700
                    tar.addfile(info, io.BytesIO(bytes(700)))
                folder = tarfile.TarInfo("d/")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def test_members_that_systems_add_to_tars_are_left_out_and_counted(folder: Path):
    held = labelled(4)
    littered(folder / "x.tar", held)

    report = adopt(folder)

    assert report.samples == 4 and report.fields == {"cls": 4, "jpg": 4}
    assert report.passed_over == {"folders": 8, "hidden files": 8 * len(JUNK), "volume labels": 1}
    assert verify(folder, decode=True).problems == ()
    assert [(key, int(label)) for _, label, key in ShardDataset(folder, batch_size=None, keys=True)] == [
        (key, int(fields["cls"])) for key, fields in held.items()
    ]
    assert ShardSet(Location(LocalFolder(folder))).labels().tolist() == [0, 1, 2, 0]


def test_names_written_on_windows_are_paths(folder: Path):
    held = {f".\\v1.0\\{key}": fields for key, fields in labelled(3).items()}
    by_tarfile(folder / "x.tar", held)

    adopt(folder)

    assert [key for _, _, key in ShardDataset(folder, batch_size=None, keys=True)] == [
        "./v1.0/000000",
        "./v1.0/000001",
        "./v1.0/000002",
    ]
    assert verify(folder).problems == ()
