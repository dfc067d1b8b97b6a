"""Packing of class folders: this package and other tools read every image once, with the label of its folder."""

import hashlib
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mps_shards import DeviceLoader, ShardDataset, pack
from mps_shards.errors import ShardError
from mps_shards.shards.key_names import key_to_path
from mps_shards.shards.sample_index import check_rows
from mps_shards.shardset.opening import read_manifest
from mps_shards.storage.local_disk import LocalFolder
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import expected, tiny_jpeg, write


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "shards"
    pack(photos, out, shard_size="40kB")
    return out


def of_folders(photos: Path) -> dict[str, str]:
    """Return the class folder of each image by key."""
    return {str(path.relative_to(photos).with_suffix("")): path.parent.name for path in photos.rglob("*.jpg")}


def test_every_key_is_read_once_with_the_label_of_its_folder(photos: Path, shards: Path):
    data = ShardDataset(shards, batch_size=7, keys=True)

    read = [
        (key, data.source.classes[label]) for _, labels, keys in data for key, label in zip(keys, labels, strict=True)
    ]

    assert len(read) == len(data.source.classes) * 15 == 60
    assert dict(read) == of_folders(photos)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_loader_delivers_the_same_in_another_order_each_epoch(photos: Path, shards: Path, workers: int):
    data = ShardDataset(shards, batch_size=8, shuffle=True, keys=True)
    classes = data.source.classes
    orders = []

    with DeviceLoader(data, device="cpu", num_threads=workers) as loader:
        for epoch in range(2):
            loader.set_epoch(epoch)
            read = [
                (key, classes[label]) for _, labels, keys in loader for key, label in zip(keys, labels, strict=True)
            ]
            assert dict(read) == of_folders(photos) and len(read) == 60
            orders.append([key for key, _ in read])

    assert orders[0] != orders[1]


def test_dataloader_workers_deliver_the_same(photos: Path, shards: Path):
    data = ShardDataset(shards, batch_size=8, keys=True)
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")

    read = [
        (key, data.source.classes[label]) for _, labels, keys in loader for key, label in zip(keys, labels, strict=True)
    ]

    assert dict(read) == of_folders(photos) and len(read) == 60


def test_packing_mixes_the_classes_over_the_shards(shards: Path):
    for tar in shards.glob("*.tar"):
        labels = [fields["cls"] for _, fields in by_webdataset_s_reader([tar])]
        assert len(set(labels)) > 1 or len(labels) < 4, tar


def test_plain_webdataset_reads_the_original_bytes_and_labels(photos: Path, shards: Path):
    classes = read_manifest(LocalFolder(shards)).classes

    samples = by_webdataset_s_reader(sorted(shards.glob("*.tar")))

    assert {key: classes[int(fields["cls"])] for key, fields in samples} == of_folders(photos)
    for key, fields in samples:
        assert fields == {"cls": fields["cls"], "jpg": (photos / f"{key}.jpg").read_bytes()}


def test_tar_lists_and_extracts_shards_without_a_warning(photos: Path, shards: Path, tmp_path: Path):
    if not shutil.which("tar"):
        pytest.skip("no tar here")
    listed = []
    for tar in sorted(shards.glob("*.tar")):
        done = subprocess.run(["tar", "tf", tar], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        listed += done.stdout.splitlines()
        subprocess.run(["tar", "xf", tar, "-C", tmp_path], check=True)

    assert sorted(listed) == sorted(f"{key}.{field}" for key in of_folders(photos) for field in ("cls", "jpg"))
    for path in photos.rglob("*.jpg"):
        assert (tmp_path / path.relative_to(photos)).read_bytes() == path.read_bytes()


def test_manifest_and_index_describe_the_bytes_of_the_shards(shards: Path):
    assert_described(shards)
    assert all(path.stat().st_size <= 40_000 for path in shards.glob("*.tar"))


def test_large_files_are_described_correctly(tmp_path: Path):
    rng = np.random.default_rng(0)
    sizes = (3_000_000, 1, 9_000_000, 4 << 20, 70_000, 2_500_000)
    files = {f"{n % 2}/{n}.jpg": tiny_jpeg() + rng.bytes(size) for n, size in enumerate(sizes)}

    out = pack(write(tmp_path / "imgs", files), shard_size="12MB").out

    assert_described(out)
    samples = by_webdataset_s_reader(sorted(out.glob("*.tar")))
    assert {f"{key}.jpg": fields["jpg"] for key, fields in samples} == files


def assert_described(shards: Path) -> None:
    """Fail unless sizes, digests and checksums in manifest and index are those of the tars."""
    manifest = read_manifest(LocalFolder(shards))
    index = np.load(shards / "index.npy")
    row = 0

    assert manifest.index_sha256 == hashlib.sha256((shards / "index.npy").read_bytes()).hexdigest()
    assert [shard.name for shard in manifest.shards] == sorted(path.name for path in shards.glob("*.tar"))
    for shard in manifest.shards:
        content = (shards / shard.name).read_bytes()
        rows = index[row : row + shard.samples]
        row += shard.samples
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
        check_rows(shard.name, rows, shard_bytes=shard.bytes)
        assert [int(r["crc32"]) for r in rows] == [zlib.crc32(content[r["offset"] :][: r["size"]]) for r in rows]
        assert int(rows["size"].sum()) == shard.bytes - 1024
    assert row == len(index) == manifest.samples


def test_members_are_in_order_without_time_owner_or_extra_headers(shards: Path):
    for path in shards.glob("*.tar"):
        with tarfile.open(path) as tar:
            keys = [name.rpartition(".")[0] for name in tar.getnames()[::2]]
            assert tar.getnames() == [f"{key}.{field}" for key in keys for field in ("cls", "jpg")]
            for info in tar:
                assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)
                assert info.offset_data - info.offset == 512 and not info.pax_headers


def test_split_folders_become_one_set_each(tmp_path: Path):
    names = {
        f"{split}/{label}/{n}.jpg": (split, label) for split in ("train", "val") for label in "ab" for n in range(3)
    }
    source = write(tmp_path / "imgs", {name: tiny_jpeg(seed) for seed, name in enumerate(names)})
    write(source, {f"test/{n}.jpg": tiny_jpeg(n) for n in range(4)})

    report = pack(source)

    assert [done.split for done in report.sets] == ["test", "train", "val"]
    for done in report.sets:
        assert done.folder == report.out / done.split
        assert [path.name for path in done.folder.glob("*.tar")] == [f"{done.split}-000000.tar"]
        data = ShardDataset(done.folder, batch_size=None, keys=True)
        read = {key: int(label) for _, label, key in data}
        if done.split == "test":
            assert read == {f"test/{n}": -1 for n in range(4)}
        else:
            wanted = {name[:-4]: "ab".index(label) for name, (split, label) in names.items() if split == done.split}
            assert read == wanted and data.source.classes == ("a", "b")


AWKWARD = (
    "a.b/v1.2.final.jpg",
    "a.b/v1.3.final.jpg",
    "__meta__/x.jpg",
    "100%/50%25.JPG",
    "ü 日本/猫.jpeg",
    "long/" + "n" * 150 + ".jpg",
    "deep/" + "d/" * 80 + "x.jpg",
    "a.b/back\\slash.jpg",
    "a.b/line\nfeed.jpg",
)


def test_unusual_names_are_restored_by_this_package_and_by_webdataset(tmp_path: Path):
    files = {name: tiny_jpeg(seed) for seed, name in enumerate(AWKWARD)}
    out = pack(write(tmp_path / "imgs", files)).out

    data = ShardDataset(out, batch_size=None, keys=True)
    ours = {key_to_path(key): image for image, _, key in data}
    theirs = {key_to_path(key): fields for key, fields in by_webdataset_s_reader(sorted(out.glob("*.tar")))}

    assert ours.keys() == theirs.keys() == {name.rpartition(".")[0] for name in AWKWARD}
    for name, content in files.items():
        stem, _, extension = name.rpartition(".")
        assert ours[stem].equal(expected(content))
        assert theirs[stem][extension.lower()] == content


def test_files_that_differ_only_in_the_extension_have_different_keys(tmp_path: Path):
    files = {"cat/x.jpg": tiny_jpeg(1), "cat/x.png": tiny_jpeg(2)}
    out = pack(write(tmp_path / "imgs", files), keys="name").out

    read = {key_to_path(key): image for image, _, key in ShardDataset(out, batch_size=None, keys=True)}

    assert read.keys() == files.keys()
    for name, content in files.items():
        assert read[name].equal(expected(content))


@pytest.mark.parametrize(
    "options", [{"shard_samples": 1}, {"shard_samples": 7}, {"shard_size": "5kB"}, {"shuffle": False}]
)
def test_shards_of_any_size_are_read_completely(photos: Path, tmp_path: Path, options: dict):
    report = pack(photos, tmp_path / "out", **options)

    read = [key for _, _, key in ShardDataset(report.out, batch_size=None, keys=True)]

    assert sorted(read) == sorted(of_folders(photos))
    if "shuffle" in options:
        assert read == sorted(of_folders(photos))


def test_a_damaged_byte_of_a_header_is_an_error_when_it_is_read(shards: Path, tmp_path: Path):
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    tar = sorted(copy.glob("*.tar"))[0]
    content = bytearray(tar.read_bytes())
    content[30] ^= 1
    tar.write_bytes(content)

    with pytest.raises(ShardError, match=r"shard shard-000000\.tar: the header at byte 0 has a wrong checksum"):
        list(ShardDataset(copy, batch_size=1))
