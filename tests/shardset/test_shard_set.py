"""Random access to the samples of a set, and errors about damaged sets."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mps_shards import ReadOptions, ShardDataset
from mps_shards.errors import ConfigError, ManifestError, ShardError, StorageError
from mps_shards.shards.tar import header, padding
from mps_shards.shardset.shard_set import ShardSet, sample_from
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location
from tests.support.sets import keys, sample_bytes, shard_set

COUNTS = [3, 0, 1, 4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of a set that a test may damage."""
    return Path(shutil.copytree(shard_set(COUNTS), tmp_path / "set"))


def opened(folder: Path, *names: str) -> ShardSet:
    return ShardSet(Location(LocalFolder(folder), names or None))


def test_samples_are_read_by_number_from_any_thread():
    found = opened(shard_set(COUNTS))
    numbers = [7, 0, 3, 3, 6, 2, 5, 1, 4]

    with ThreadPoolExecutor(4) as pool:
        samples = list(pool.map(found.read, numbers))

    assert [sample.key for sample in samples] == keys(numbers)
    assert [sample.label() for sample in samples] == [number % 3 for number in numbers]
    assert [sample.shard for sample in samples[:3]] == ["s-000003.tar", "s-000000.tar", "s-000002.tar"]
    assert len(found) == 8 and found.counts == COUNTS


def test_chosen_tars_of_a_set_are_read_in_the_given_order():
    found = opened(shard_set(COUNTS), "s-000003.tar", "s-000000.tar")

    assert [found.read(number).key for number in range(len(found))] == keys([4, 5, 6, 7, 0, 1, 2])
    assert found.fingerprint != opened(shard_set(COUNTS), "s-000000.tar", "s-000003.tar").fingerprint


def test_a_pickled_set_is_small_and_can_be_read_again():
    found = opened(shard_set([1] * 50))
    found.read(4)

    sent = pickle.dumps(found)

    assert len(sent) < 20_000
    assert pickle.loads(sent).read(49).key == "s00049"


def test_a_closed_set_can_be_read_again():
    found = opened(shard_set(COUNTS))

    found.read(0)
    found.close()

    assert found.read(7).key == "s00007"


@pytest.mark.parametrize(
    ("names", "error", "complaint"),
    [
        (["s-000009.tar"], ManifestError, "s-000009.tar is not listed in the manifest beside it"),
        (["s-000000.tar"] * 2, ConfigError, "named twice"),
    ],
)
def test_tars_that_cannot_be_chosen_are_refused(names, error, complaint):
    with pytest.raises(error, match=complaint):
        opened(shard_set(COUNTS), *names)


def test_a_tar_of_another_size_is_named_with_both_sizes(folder):
    size = (folder / "s-000003.tar").stat().st_size
    with (folder / "s-000003.tar").open("ab") as tar:
        tar.write(b"more")

    with pytest.raises(ShardError, match=rf"s-000003.tar has {size + 4} bytes, but its manifest says {size}"):
        opened(folder)


def test_a_missing_tar_is_named(folder):
    (folder / "s-000002.tar").unlink()

    with pytest.raises(StorageError, match=r"s-000002.tar: No such file"):
        opened(folder)


def test_without_a_manifest_the_sets_below_are_named(tmp_path):
    for name in ("train", "val"):
        shutil.copytree(shard_set([1]), tmp_path / name)

    with pytest.raises(ManifestError, match=rf"name one of the sets in it: {tmp_path}/train, {tmp_path}/val"):
        opened(tmp_path)
    with pytest.raises(StorageError, match="no such directory"):
        opened(tmp_path / "test")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is not an index"),
        (b"not an array", "is not an index"),
        (None, "has .* rows"),
    ],
)
def test_a_damaged_index_is_named(folder, content, complaint):
    if content is None:
        np.save(folder / "index.npy", np.load(folder / "index.npy")[:-1])
    else:
        (folder / "index.npy").write_bytes(content)

    with pytest.raises(ManifestError, match=complaint):
        opened(folder)


@pytest.mark.parametrize(("field", "value"), [("offset", 10**6), ("size", 2**20), ("size", 0)])
def test_an_index_row_outside_of_its_shard_is_refused(folder, field, value):
    index = np.load(folder / "index.npy")
    index[field][5] = value
    np.save(folder / "index.npy", index)
    found = opened(folder)

    assert found.read(3).key == "s00003"
    for number in (4, 5):  # of the same shard: none of its rows can be trusted
        with pytest.raises(
            ManifestError, match=r"index row 1 of shard s-000003.tar states bytes .*: run 'mps-shards repair'"
        ):
            found.read(number)


def test_an_index_of_another_set_is_refused(folder):
    index = np.load(folder / "index.npy")
    index["offset"][7] += 512  # the last one: still in its shard, and behind the others
    index["size"][7] -= 512
    np.save(folder / "index.npy", index)

    with pytest.raises(ShardError, match=r"shard s-000003.tar"):
        opened(folder).read(7)
    with pytest.raises(
        ManifestError, match=r"index.npy has SHA-256 .*, but its manifest says .*: run 'mps-shards repair'"
    ):
        ShardSet(Location(LocalFolder(folder)), verify=True)


def member(name: str) -> bytes:
    return header(name, 1) + b"x" + padding(1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (sample_bytes("a", 0) + sample_bytes("b", 1), "an index row covers two samples, 'a' and 'b'"),
        (bytes(1024), "an index row covers no sample"),
        (member("a.jpg") + member("a.jpg"), "holds the field 'jpg' twice"),
        (member("noextension"), "has no key or no field"),
        (sample_bytes("a", 0)[:-512], "needs .* bytes, but only .* follow"),
    ],
)
def test_bytes_that_are_not_a_single_sample_are_refused(content, complaint):
    with pytest.raises(ShardError, match=complaint):
        sample_from(content, shard="s.tar")


def test_a_flipped_bit_inside_an_image_is_found_by_verified_reads(folder):
    offset, size, crc32 = np.load(folder / "index.npy")[4].item()
    shard = folder / ShardSet(Location(LocalFolder(folder))).read(4).shard
    content = bytearray(shard.read_bytes())
    content[offset + 600] ^= 1
    shard.write_bytes(content)

    ShardSet(Location(LocalFolder(folder))).read(4)
    with pytest.raises(
        ShardError, match=f"bytes {offset} to {offset + size} have CRC-32 .* the index says {crc32:08x}"
    ):
        ShardSet(Location(LocalFolder(folder)), verify=True).read(4)
    assert ShardSet(Location(LocalFolder(folder)), verify=True).read(2).key


def test_verified_reads_need_an_index(folder):
    (folder / "manifest.json").unlink()

    with pytest.raises(ConfigError, match="verify=True needs an index"):
        ShardDataset(folder, batch_size=2, read_options=ReadOptions(verify=True))
