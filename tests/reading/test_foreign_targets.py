"""Targets of tars without an index: several samples decide the task, and entries outside of samples are counted."""

import io
import logging
import tarfile
from pathlib import Path

import pytest

from mps_shards import ShardDataset, SkipRules
from mps_shards.errors import ConfigError, DataError, DecodeError
from tests.support.foreign import by_tarfile
from tests.support.images import encoded, picture, tiny_jpeg

ANY = SkipRules(max_bad=None)

Members = list[tuple[str, bytes]]


def tar_of(path: Path, members: Members, *, odd: list[tuple[str, bytes]] = ()) -> Path:
    """Write a tar of members in this order, after entries without data, whose names and type flags are `odd`."""
    with tarfile.open(path, "w") as tar:
        for name, kind in odd:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "elsewhere" if kind in b"12" else ""
            tar.addfile(info)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def labels(tar: Path, **options: object) -> dict[str, int]:
    return {key: int(label) for _, label, key in ShardDataset(tar, batch_size=None, keys=True, **options)}


def held(count: int, *, without: tuple[int, ...] = ()) -> Members:
    found = []
    for n in range(count):
        found.append((f"{n:03d}.jpg", tiny_jpeg(n)))
        if n not in without:
            found.append((f"{n:03d}.cls", str(n % 3).encode()))
    return found


def test_if_the_first_sample_has_no_label_only_that_sample_is_bad(tmp_path: Path):
    tar = tar_of(tmp_path / "x.tar", held(10, without=(0,)))

    with pytest.raises(DecodeError, match=r"sample '000' of shard x\.tar has no label, but the set has labels"):
        labels(tar)
    assert labels(tar, on_bad_sample=ANY) == {f"{n:03d}": n % 3 for n in range(1, 10)}


def test_tars_without_labels_are_read(tmp_path: Path):
    tar = tar_of(tmp_path / "x.tar", held(70, without=tuple(range(70))))

    assert labels(tar) == {f"{n:03d}": -1 for n in range(70)}


@pytest.mark.parametrize("policy", ["raise", ANY])
def test_labels_that_appear_late_are_an_error_that_names_the_remedies(tmp_path: Path, policy: object):
    tar = tar_of(tmp_path / "x.tar", held(70, without=tuple(range(65))))

    with pytest.raises(
        ConfigError, match=r"sample '065' .* has a target \(cls\), but none of the first 64 samples had"
    ):
        labels(tar, on_bad_sample=policy)
    assert set(labels(tar, target="none").values()) == {-1}
    assert labels(tar, target="cls", on_bad_sample=ANY) == {f"{n:03d}": n % 3 for n in range(65, 70)}


def test_samples_whose_members_are_interleaved_are_never_delivered_without_labels(tmp_path: Path):
    images = [(f"{n:03d}.jpg", tiny_jpeg(n)) for n in range(4)]
    numbers = [(f"{n:03d}.cls", b"1") for n in range(4)]
    tar = tar_of(tmp_path / "x.tar", images + numbers)

    with pytest.raises(DataError):
        labels(tar)
    assert labels(tar, on_bad_sample=ANY) == {}


def test_a_missing_image_makes_only_its_own_sample_bad(tmp_path: Path):
    members = held(5)
    del members[2]  # the image of 001, which leaves its label alone
    tar = tar_of(tmp_path / "x.tar", members)

    assert labels(tar, on_bad_sample=ANY) == {"000": 0, "002": 2, "003": 0, "004": 1}


def test_samples_that_were_inspected_for_the_task_are_delivered_before_the_damage(tmp_path: Path):
    tar = tar_of(tmp_path / "x.tar", held(5, without=tuple(range(5))))
    tar.write_bytes(tar.read_bytes()[: 4 * 1024 + 3000])
    keys = []

    with pytest.raises(DataError):
        for _, _, key in ShardDataset(tar, batch_size=None, keys=True):
            keys.append(key)

    assert keys[:2] == ["000", "001"]


def test_entries_that_belong_to_no_sample_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    odd = [
        ("000.txt", tarfile.SYMTYPE),
        ("000.json", tarfile.LNKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("d/", b"5"),
        ("z", b"Z"),
    ]
    members = [*held(2), ("__meta__/a.jpg", b"x"), ("README", b"x"), ("._000.jpg", b"x")]
    tar = tar_of(tmp_path / "x.tar", members, odd=odd)

    with caplog.at_level(logging.INFO, "mps_shards"):
        assert labels(tar) == {"000": 0, "001": 1}

    told = " | ".join(record.message for record in caplog.records)
    assert "4 entries are links, devices or of an unknown type, and belong to no sample; the first: '000.txt'" in told
    assert "1 files have no key and field, and belong to no sample; the first: 'README'" in told
    assert "1 files have names that webdataset keeps for itself (__x__), and belong to no sample" in told
    assert "1 hidden files were passed over" in told


def test_names_written_on_windows_are_samples(tmp_path: Path):
    tar = by_tarfile(tmp_path / "x.tar", {f".\\v1.0\\{n}": {"jpg": tiny_jpeg(n), "cls": b"1"} for n in range(3)})

    assert labels(tar) == {f"./v1.0/{n}": 1 for n in range(3)}


def test_a_mask_that_is_not_a_label_map_is_a_bad_sample(tmp_path: Path):
    mask = encoded(picture("L"), "JPEG")
    members = [("a.jpg", tiny_jpeg(0)), ("a.mask.png", mask)]

    with pytest.raises(DecodeError, match="the mask is a JPEG"):
        labels(tar_of(tmp_path / "x.tar", members))


def test_16_bit_gray_images_are_bad_samples(tmp_path: Path):
    members = [("a.png", encoded(picture("I;16"), "PNG")), ("a.cls", b"0")]

    with pytest.raises(DecodeError, match="which 8 bits would clip"):
        labels(tar_of(tmp_path / "x.tar", members))
