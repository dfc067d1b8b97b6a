"""Scan of a tar: it finds the samples that webdataset finds, and every fault."""

import hashlib
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mps_shards.errors import StorageError
from mps_shards.shards.tar import END, header, padding, sample_from
from mps_shards.shardset import scan
from mps_shards.shardset.scan import Scan, scan_shard, scan_shards
from mps_shards.storage.local_disk import local_file
from tests.support.damage import copied, cut, flip, manifest_of
from tests.support.foreign import MAKERS, by_webdataset_s_reader, samples
from tests.support.sets import shard_set

PLAIN = [name for name in MAKERS if not {"gzip", "bzip2", "xz"} & set(name.replace(",", "").split())]


def tar(*held: tuple[str, bytes], end: bytes = END) -> bytes:
    return b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in held) + end


def scanned(path: Path, content: bytes) -> Scan:
    path.write_bytes(content)
    return scan_shard(local_file(path))


def kinds(found: Scan) -> list[str]:
    return [fault.kind for fault in found.faults]


def test_the_scan_of_a_packed_shard_equals_its_manifest_and_index():
    folder = shard_set([5, 3])

    found = list(scan_shards(map(local_file, sorted(folder.glob("*.tar"))), workers=2))

    assert tuple(one.record for one in found) == manifest_of(folder).shards
    assert np.array_equal(np.concatenate([one.rows for one in found]), np.load(folder / "index.npy"))
    assert np.concatenate([one.labels for one in found]).tolist() == [n % 3 for n in range(8)]
    assert [one.fields for one in found] == [{"cls": 5, "jpg": 5}, {"cls": 3, "jpg": 3}]
    assert not any(one.faults for one in found)


@pytest.mark.parametrize("maker", PLAIN)
def test_tars_of_any_tool_give_the_samples_that_webdataset_reads(maker: str, tmp_path: Path):
    path = MAKERS[maker](tmp_path / "x.tar", samples(4))
    content = path.read_bytes()

    found = scan_shard(local_file(path))

    assert not found.faults
    assert found.record.sha256 == hashlib.sha256(content).hexdigest()
    rows = [(content[offset : offset + size], crc32) for offset, size, crc32 in found.rows.tolist()]
    assert [zlib.crc32(blocks) for blocks, _ in rows] == [crc32 for _, crc32 in rows]
    read = [sample_from(blocks, shard="x.tar") for blocks, _ in rows]
    ours = [(one.key, {name: bytes(data) for name, data in one.fields.items()}) for one in read]
    assert ours == by_webdataset_s_reader([path])


@given(
    chunk=st.integers(512, 3000),
    sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=8),
    long=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_the_size_of_reads_does_not_change_the_result(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, sizes: list[int], long: list[bool]
):
    names = [f"{'n' * 150 if far else ''}{number}" for number, far in zip(range(len(sizes)), long, strict=False)]
    path = tmp_path_factory.mktemp("scan") / "x.tar"
    path.write_bytes(
        tar(
            *[
                (f"{name}.{field}", b"7" * size)
                for name, size in zip(names, sizes, strict=True)
                for field in ("jpg", "txt")
            ]
        )
    )
    whole = scan_shard(local_file(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_CHUNK", chunk)
        pieces = scan_shard(local_file(path))

    assert (pieces.record, pieces.rows.tolist()) == (whole.record, whole.rows.tolist())
    assert not whole.faults and not pieces.faults
    assert pieces.record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "kind", "complaint"),
    [
        (b"", "damaged", "ends at byte 0 without the two zero blocks"),
        (b"\xff\xd8\xff" * 400, "damaged", "no tar header at byte 0"),
        (tar(("a.jpg", b"x"), end=b""), "damaged", "ends at byte 1024 without the two zero blocks"),
        (tar(("a.jpg", b"x" * 900))[:1000], "damaged", "needs 900 bytes, but only 488 follow"),
        (tar(("a.jpg", b"x")) + b"more", "bytes after the end", "content ends at byte 1024, but other bytes follow"),
        (tar(("a.jpg", b"x"), ("a.JPG", b"y")), "field twice", "sample 'a' holds the field 'jpg' twice"),
        (tar(("a.cls", b"1")), "no one image", "sample 'a' of shard x.tar holds no image (fields: cls)"),
        (
            tar(("a.jpg", b"x"), ("a.png", b"y")),
            "no one image",
            "sample 'a' of shard x.tar holds 2 images (fields: jpg, png)",
        ),
        (tar(("a.cls", b"one"), ("a.jpg", b"x")), "bad label", "label b'one' is not a class number"),
        (tar(("a.jpg", b"x"), ("b.jpg", b"x"), ("a.jpg", b"y")), "duplicate key", "the key 'a' occurs twice"),
        (tar(("readme", b"x"), ("a.jpg", b"y")), "unusable name", "the member name 'readme' has no key or no field"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_damage_is_reported_as_a_fault(tmp_path: Path, content: bytes, kind: str, complaint: str):
    found = scanned(tmp_path / "x.tar", content)

    assert kind in kinds(found)
    assert complaint in next(fault.detail for fault in found.faults if fault.kind == kind)
    assert found.record.bytes == len(content)
    assert found.record.sha256 == hashlib.sha256(content).hexdigest()


def test_links_are_faults_and_folders_are_not(tmp_path: Path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("./a", tarfile.DIRTYPE), ("./a/x.jpg", tarfile.REGTYPE), ("./a/y.jpg", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)

    found = scan_shard(local_file(path))

    assert kinds(found) == ["link or device"]
    assert found.record.samples == 1


def test_samples_before_the_damage_are_found(tmp_path: Path):
    folder = copied([5], tmp_path / "set")
    rows = np.load(folder / "index.npy")
    shard = folder / "s-000000.tar"
    flip(shard, int(rows[3]["offset"]) + 150)

    found = scan_shard(local_file(shard))

    assert kinds(found) == ["damaged"]
    assert found.rows.tolist() == rows[:2].tolist()  # the third may have had more fields
    assert found.record.bytes == shard.stat().st_size


def test_a_fault_of_many_samples_is_reported_a_few_times(tmp_path: Path):
    found = scanned(tmp_path / "x.tar", tar(*[(f"{n}.txt", b"x") for n in range(50)]))

    assert kinds(found) == ["no one image"] * 20
    assert found.record.samples == 50


def test_progress_adds_up_to_the_file(tmp_path: Path):
    path = copied([3], tmp_path / "set") / "s-000000.tar"
    progress: list[int] = []

    scan_shard(local_file(path), on_progress=progress.append)

    assert sum(progress) == path.stat().st_size


def test_a_failure_stops_the_other_shards_where_they_are(tmp_path: Path):
    paths = [copied([3], tmp_path / "set") / "s-000000.tar"] * 1000
    progress: list[int] = []

    def stop_at_the_first(size: int) -> None:
        progress.append(size)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(scan_shards(map(local_file, paths), workers=1, on_progress=stop_at_the_first))

    assert len(progress) < len(paths)


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(StorageError, match=r"gone\.tar: No such file"):
        scan_shard(local_file(tmp_path / "gone.tar"))


def test_a_tar_that_is_truncated_at_any_byte_has_a_fault(tmp_path: Path):
    path = copied([2], tmp_path / "set") / "s-000000.tar"
    content = path.read_bytes()

    for size in range(0, len(content), 256):
        path.write_bytes(content)
        cut(path, size)
        assert kinds(scan_shard(local_file(path))), size
