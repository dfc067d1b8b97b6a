"""Names that differ only in case or Unicode normal form, on disks that treat them as equal and on other disks."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mps_shards import pack
from mps_shards.errors import ConfigError, DataError, ShardError
from mps_shards.shards.manifest import manifest_bytes
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.opening import open_set
from mps_shards.shardset.unpacking import unpack
from tests.support.images import tiny_jpeg, write
from tests.support.sets import foreign_tars

COMPOSED, DECOMPOSED = "\u00e9", "e\u0301"


@pytest.fixture
def mixing(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk that ignores case in names."""
    image, folder = tmp_path / "disk", tmp_path / "mixing"
    image.write_bytes(bytes(1))
    with image.open("r+b") as file:
        file.truncate(16 << 20)
    folder.mkdir()
    if not shutil.which("lowntfs-3g") or not shutil.which("mkntfs"):
        pytest.skip("needs ntfs-3g")
    made = subprocess.run(["mkntfs", "-qfF", image], capture_output=True, check=False)
    mounted = subprocess.run(["lowntfs-3g", "-o", "ignore_case", image, folder], capture_output=True, check=False)
    if made.returncode or mounted.returncode:
        pytest.skip("a disk of NTFS cannot be made and mounted by this user")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("names", [("train", "Train"), (f"r{COMPOSED}", f"r{DECOMPOSED}")])
def test_splits_that_some_disk_treats_as_equal_are_refused_and_both_are_named(tmp_path: Path, names: tuple[str, str]):
    splits = {name: [(tiny_jpeg(number), 0)] for number, name in enumerate(names)}

    with pytest.raises(ConfigError, match="differ only in case or Unicode normal form") as refusal:
        pack(splits, tmp_path / "out")

    assert all(repr(name) in str(refusal.value) for name in names)
    assert not (tmp_path / "out").exists()


def test_splits_of_a_list_that_differ_in_case_are_refused(tmp_path: Path):
    write(tmp_path / "imgs", {f"{number}.jpg": tiny_jpeg(number) for number in range(4)})
    rows = [f"{number}.jpg,{'ab'[number % 2]},{'train' if number < 2 else 'Train'}" for number in range(4)]
    (tmp_path / "imgs" / "list.csv").write_text("\n".join(["path,label,split", *rows, ""]))

    with pytest.raises(ConfigError, match="'Train' and 'train' differ only in case"):
        pack(tmp_path / "imgs" / "list.csv", tmp_path / "out")


def test_tars_that_some_disk_treats_as_equal_are_not_indexed(tmp_path: Path):
    for number, tar in enumerate(sorted(foreign_tars([2, 2]).glob("*.tar"))):
        (tmp_path / f"{'Ss'[number]}.tar").write_bytes(tar.read_bytes())

    with pytest.raises(ConfigError, match=r"S\.tar and s\.tar in .* differ only in case.*rename one"):
        adopt(tmp_path)

    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(("held", "new"), [("x", "X"), (COMPOSED, DECOMPOSED)])
def test_images_whose_names_the_set_has_in_another_normal_form_are_not_appended(tmp_path: Path, held: str, new: str):
    pack(write(tmp_path / "imgs", {f"{held}.jpg": tiny_jpeg()}), tmp_path / "out")
    more = write(tmp_path / "more", {f"{new}.jpg": tiny_jpeg(1)})

    with pytest.raises(DataError, match="differ only in case or Unicode normal form") as refusal:
        pack(more, tmp_path / "out", append=True)

    assert f"{new}.jpg and the sample {held} of" in str(refusal.value)
    assert open_set(tmp_path / "out").manifest.samples == 1


def test_class_folders_that_a_disk_treats_as_equal_are_not_unpacked_into_each_other(tmp_path: Path, mixing: Path):
    images = write(tmp_path / "imgs", {"cat/x.jpg": tiny_jpeg(), "Cat/y.jpg": tiny_jpeg(1), "dog/z.jpg": tiny_jpeg(2)})
    out = pack(images, tmp_path / "out", layout="classes").out

    with pytest.raises(DataError, match=r"would become 'cat', .* treats this name as .*: they differ only in case"):
        unpack(out, mixing / "again", workers=1)
    assert unpack(out, tmp_path / "again").clashes == 1


def test_a_set_whose_shards_are_one_file_on_the_disk_is_not_read(tmp_path: Path, mixing: Path):
    names = ["a.tar", "b.tar"]
    for name, tar in zip(names, sorted(foreign_tars([2, 2]).glob("*.tar")), strict=True):
        (tmp_path / name).write_bytes(tar.read_bytes())
    adopt(tmp_path)
    manifest = open_set(tmp_path).manifest
    shards = tuple(
        msgspec.structs.replace(shard, name=f"{'aA'[place]}.tar") for place, shard in enumerate(manifest.shards)
    )
    for name in ("a.tar", "index.npy", "labels.npy"):
        shutil.copyfile(tmp_path / name, mixing / name)
    (mixing / "manifest.json").write_bytes(manifest_bytes(msgspec.structs.replace(manifest, shards=shards)))

    with pytest.raises(ShardError, match="are one file on this disk"):
        open_set(mixing)
