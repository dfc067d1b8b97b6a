"""Tars without an index: read in order by webdataset, shuffled reproducibly, and damage is always an error."""

import gzip
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards import ShardDataset
from mps_shards.errors import ShardError
from mps_shards.reading.foreign_shards import _USUAL_NUMBERS
from mps_shards.shards.tar import BLOCK, END
from tests.support.sets import foreign_tars, keys, shard_set

COUNTS = [5, 0, 1, 9]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of tars that tests may damage."""
    return Path(shutil.copytree(foreign_tars(COUNTS), tmp_path / "tars"))


def keys_of(shards, **options) -> list[str]:
    return [key for *_, found in ShardDataset(shards, **{"batch_size": 4, "keys": True, **options}) for key in found]


def test_without_shuffling_samples_come_in_the_order_of_the_tar():
    assert keys_of(foreign_tars(COUNTS)) == keys(range(15))


def test_foreign_tars_give_the_pixels_and_labels_of_the_indexed_set():
    indexed = list(ShardDataset(shard_set(COUNTS), batch_size=4, keys=True))
    foreign = list(ShardDataset(foreign_tars(COUNTS), batch_size=4, keys=True))

    assert [(images.tolist(), targets.tolist(), found) for images, targets, found in foreign] == [
        (images.tolist(), targets.tolist(), found) for images, targets, found in indexed
    ]


def test_each_shuffled_epoch_has_each_sample_once_in_another_order():
    many = foreign_tars([700, 800])  # more samples than the shuffle buffer holds
    epochs = [keys_of(many, batch_size=100, shuffle=True, epoch=epoch) for epoch in (0, 0, 1)]

    assert epochs[0] == epochs[1] != epochs[2]
    assert all(sorted(epoch) == keys(range(1500)) for epoch in epochs)
    assert epochs[0] != keys_of(many, batch_size=100, shuffle=True, seed=1)


@pytest.mark.parametrize("remainder", ["pad", "drop", "keep"])
@pytest.mark.parametrize("world", [2, 3, 4, 20])
def test_ranks_share_foreign_tars_as_they_share_an_indexed_set(remainder, world):
    for rank in range(world):
        options = {"rank": rank, "world_size": world, "remainder": remainder, "batch_size": 2}
        assert keys_of(foreign_tars(COUNTS), **options) == keys_of(shard_set(COUNTS), **options)


def test_foreign_tars_have_no_length():
    with pytest.raises(TypeError, match="the number of batches of tars without a manifest is not known"):
        len(ShardDataset(foreign_tars(COUNTS), batch_size=4))


def test_compressed_tars_are_read_too(folder):
    for tar in folder.glob("*.tar"):
        tar.with_suffix(".tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
        tar.unlink()

    assert keys_of(folder) == keys(range(15))


def damaged(content: bytes, how: str) -> bytes:
    if how == "cut between members":
        return content[:3072]
    if how == "cut in a member":
        return content[:1300]
    if how == "without its end":
        return content[: -len(END)]
    if how == "a header's byte":
        return content[:1024] + b"?" + content[1025:]
    if how == "a time that is no number":  # where tarfile silently ends a tar
        header = bytearray(content[1024:1536])
        header[136:148], header[148:156] = b"when it was ", b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return content[:1024] + header + content[1536:]
    return content + content  # two concatenated archives: webdataset alone would stop at the end of the first


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("cut between members", r"s-000003.tar is cut off"),
        ("cut in a member", r"s-000003.tar is cut off|webdataset cannot read shard .*s-000003.tar"),
        ("without its end", r"s-000003.tar is cut off: it ends at byte \d+ without the end marker of a tar"),
        ("a header's byte", r"s-000003.tar: the header at byte 1024 has a wrong checksum"),
        ("a time that is no number", r"s-000003.tar: header at byte 1024 is damaged \(invalid header\)"),
        ("doubled", r"s-000003.tar continues after its end"),
    ],
)
def test_a_damaged_tar_is_an_error_after_the_complete_samples_before_the_damage(folder, how, complaint):
    tar = folder / "s-000003.tar"
    tar.write_bytes(damaged(tar.read_bytes(), how))
    found = []

    with pytest.raises(ShardError, match=complaint):
        for *_, batch in ShardDataset(folder, batch_size=1, keys=True):
            found += batch

    assert found[:6] == keys(range(6))
    assert found == keys(range(len(found)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_usual_tar_programs_are_recognised_as_usual(form: int):
    for mode, owner, time in ((0o644, 0, 0), (0o100777, 1000, 1_700_000_000)):
        info = tarfile.TarInfo("x.jpg")
        info.mode, info.uid, info.gid, info.mtime = mode, owner, owner, time

        assert _USUAL_NUMBERS.match(info.tobuf(form))


@given(
    st.integers(0, 2).map([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT].__getitem__),
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, BLOCK - 1), st.integers(100, 148), st.integers(329, 344)),
            st.sampled_from(b"\0 /018\x80\xff") | st.integers(0, 255),
        ),
        max_size=4,
    ),
)
def test_tarfile_reads_every_header_with_usual_numbers(form: int, changes: list[tuple[int, int]]):
    info = tarfile.TarInfo("x.jpg")
    info.size = 5
    block = bytearray(info.tobuf(form))
    for place, value in changes:
        if not (124 <= place < 136 or 148 <= place < 157):  # other code checks size, checksum and kind
            block[place] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)

    if _USUAL_NUMBERS.match(block):
        assert tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape").size == 5
