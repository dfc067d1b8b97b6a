"""A damaged tar without a manifest is an error that names the tar, and never a shorter data set."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mps_shards import DeviceLoader, ShardDataset
from mps_shards.errors import ShardError, StorageError
from mps_shards.reading.foreign_shards import ForeignShards
from mps_shards.storage.location import locate
from tests.support.foreign import by_gnu_tar, by_tarfile, samples

BLOCK = 512
SQUEEZERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


def keys(path: Path) -> list[str]:
    return [sample.key for sample in ForeignShards(locate([path]), buffer=0).sequence(seed=0, epoch=0)]


def refused(path: Path, complaint: str | None = None) -> None:
    """Check that reading a tar fails with a message that names the tar."""
    with pytest.raises(ShardError, match=complaint) as raised:
        keys(path)
    assert str(path) in str(raised.value)
    assert "object at 0x" not in str(raised.value)


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return by_tarfile(tmp_path / "x.tar", samples(4), form=tarfile.USTAR_FORMAT)


def layout(content: bytes) -> tuple[list[int], list[tuple[int, int]], int]:
    """Return the offsets of the headers and of the data of a plain tar, and of its two zero blocks."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = archive.getmembers()
    headers = [info.offset for info in found]
    data = [(info.offset_data, info.offset_data + info.size) for info in found]
    return headers, data, data[-1][1] + -data[-1][1] % BLOCK


def test_undamaged_tars_are_read(tar: Path):
    assert keys(tar) == list(samples(4))


def test_a_tar_that_ends_at_any_header_is_an_error(tar: Path):
    content = tar.read_bytes()

    for header in layout(content)[0]:
        for inside in (1, 100, 511):
            tar.write_bytes(content[: header + inside])
            refused(tar)


def test_a_tar_that_ends_between_any_members_is_an_error(tar: Path):
    content = tar.read_bytes()
    headers, _, end = layout(content)

    for between in (*headers[1:], end):
        tar.write_bytes(content[:between])
        refused(tar, "is cut off: it ends at byte")


def test_a_tar_that_ends_in_any_data_is_an_error(tar: Path):
    content = tar.read_bytes()

    for start, stop in layout(content)[1]:
        for inside in {start, start + 1, stop - 1} - {stop}:
            tar.write_bytes(content[:inside])
            refused(tar)


def test_a_tar_that_ends_in_the_padding_of_data_is_an_error(tar: Path):
    content = tar.read_bytes()

    for _, stop in layout(content)[1]:
        tar.write_bytes(content[:stop])
        refused(tar)


def test_a_tar_without_two_zero_blocks_at_the_end_is_an_error(tar: Path):
    content = tar.read_bytes()
    end = layout(content)[2]

    for size in (0, 1, 511, 512, 1023):
        tar.write_bytes(content[: end + size])
        refused(tar, "is cut off")
    tar.write_bytes(content[: end + 1024])
    assert keys(tar) == list(samples(4))  # the padding after the end has no meaning


def test_an_empty_file_is_an_error(tar: Path):
    tar.write_bytes(b"")

    refused(tar)


def test_a_file_that_is_no_tar_is_an_error(tar: Path):
    for content in (b"<html>not found</html>", b"\xff\xd8\xff" * 1000, b"PK\x03\x04" * 500):
        tar.write_bytes(content)
        refused(tar)


def test_a_changed_byte_in_any_header_is_an_error(tar: Path):
    content = tar.read_bytes()

    for header in layout(content)[0]:
        for place in (0, 50, 110, 124, 135, 156, 257, 345, 511):
            damaged = bytearray(content)
            damaged[header + place] ^= 0x11
            tar.write_bytes(damaged)
            refused(tar, f"at byte {header}")


def test_a_zeroed_header_is_an_error_and_not_the_end_of_the_tar(tar: Path):
    content = tar.read_bytes()

    for header in layout(content)[0]:
        tar.write_bytes(content[:header] + bytes(BLOCK) + content[header + BLOCK :])
        refused(tar, "continues after its end")


def test_concatenated_tars_are_an_error(tar: Path):
    tar.write_bytes(tar.read_bytes() * 2)

    refused(tar, "continues after its end")


def test_other_bytes_after_the_end_are_an_error(tar: Path):
    tar.write_bytes(tar.read_bytes() + b"?" * BLOCK)

    refused(tar, "continues after its end")


def test_a_field_that_occurs_twice_is_an_error(tar: Path):
    with tarfile.open(tar, "w") as archive:
        for name in ("x.jpg", "x.JPG"):
            archive.addfile(tarfile.TarInfo(name))

    refused(tar, "duplicate file name")


@pytest.mark.parametrize("squeezer", SQUEEZERS)
def test_a_compressed_tar_that_ends_at_any_byte_is_an_error(tar: Path, squeezer: str):
    content = SQUEEZERS[squeezer](tar.read_bytes())

    for size in (*range(10, len(content), max(1, len(content) // 60)), len(content) - 1):
        tar.write_bytes(content[:size])
        refused(tar)


@pytest.mark.parametrize("squeezer", SQUEEZERS)
def test_a_truncated_tar_that_was_then_compressed_is_an_error(tar: Path, squeezer: str):
    content = tar.read_bytes()
    headers, _, end = layout(content)

    for between in (*headers[1:], end):
        tar.write_bytes(SQUEEZERS[squeezer](content[:between]))
        refused(tar, "is cut off")


@pytest.mark.parametrize("squeezer", SQUEEZERS)
def test_a_changed_byte_in_compressed_data_is_an_error(tar: Path, squeezer: str):
    content = SQUEEZERS[squeezer](tar.read_bytes())

    for place in range(len(content) // 4, len(content) - 8, max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        tar.write_bytes(damaged)
        refused(tar)


@pytest.mark.parametrize("name", ["BZ-1.jpg", "BZh91AY.jpg", "\x1f\x8b.jpg", "7zXZ.jpg"])
def test_damage_is_found_in_a_tar_whose_first_name_looks_like_a_compressed_file(tar: Path, name: str):
    by_tarfile(tar, {name[:-4]: {"jpg": b"1"}, **samples(2)}, form=tarfile.GNU_FORMAT)
    content = tar.read_bytes()
    assert keys(tar) == [name[:-4], *samples(2)]

    tar.write_bytes(content[: layout(content)[0][-1]])

    refused(tar, "is cut off")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tar_that_ends_at_any_byte_is_an_error(tar: Path, data: st.DataObject):
    content = by_tarfile(tar, samples(3)).read_bytes()
    end = content.rstrip(b"\0")
    tar.write_bytes(content[: data.draw(st.integers(0, len(end)))])

    refused(tar)


def test_long_names_and_folders_of_gnu_tar_are_checked(tmp_path: Path):
    tar = by_gnu_tar(tmp_path / "x.tar", {"a/" * 60 + "long": {"jpg": b"1"}, **samples(2)}, "--format=gnu")
    content = tar.read_bytes()
    assert len(keys(tar)) == 3

    for block in range(BLOCK, len(content.rstrip(b"\0")) - BLOCK, BLOCK):
        tar.write_bytes(content[:block])
        refused(tar)


def test_damage_in_one_tar_of_several_ends_the_epoch_with_an_error(tmp_path: Path):
    for number in range(3):
        by_tarfile(tmp_path / f"{number}.tar", samples(5, first=number * 5))
    damaged = tmp_path / "1.tar"
    damaged.write_bytes(damaged.read_bytes()[:2048])
    read = []

    with pytest.raises(ShardError, match=r"1\.tar"):
        for _, _, batch in ShardDataset(tmp_path, batch_size=1, keys=True):
            read += batch

    assert read == list(samples(15))[: len(read)] and len(read) >= 5


def test_the_loader_raises_the_error_of_a_damaged_tar(tar: Path):
    tar.write_bytes(tar.read_bytes()[: -BLOCK * 19])

    with (
        DeviceLoader(ShardDataset(tar, batch_size=1), device="cpu") as loader,
        pytest.raises(ShardError, match=r"x\.tar"),
    ):
        list(loader)


def test_a_tar_that_was_deleted_is_an_error_that_names_it(tar: Path):
    data = ShardDataset(tar, batch_size=1)
    tar.unlink()

    with pytest.raises((StorageError, ShardError), match=r"x\.tar.*No such file"):
        list(data)


def test_files_of_an_interrupted_pack_are_not_read_as_tars_without_a_manifest(tar: Path):
    (tar.parent / "y.tar.part").touch()

    with pytest.raises(StorageError, match=r"holds an unfinished pack \(y\.tar\.part\); pack again"):
        ShardDataset(tar.parent, batch_size=1)
