"""A hostile set raises an error; it cannot take much memory or time, or touch other files."""

import gzip
import io
import json
import pickle
import resource
import tarfile
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, SkipRules
from mps_shards.errors import DataError, DecodeError, ManifestError, ShardError
from mps_shards.shards.manifest import MANIFEST_NAME, manifest_bytes, parse_manifest
from mps_shards.shards.sample_index import INDEX_NAME, ROW
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.local_disk import LocalFolder
from mps_shards.storage.location import Location
from tests.support.dangers import dangers, sources
from tests.support.foreign import by_tarfile, samples
from tests.support.sets import keys, shard_set

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


# Code and links in data


def test_the_package_never_executes_data_that_it_reads():
    assert dangers(sources(ROOT)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from cloudpickle import loads",
        "from torch import load",
        "torch.load(f)",
        "eval('1')",
        "numpy.lib.format.read_array(f, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "tar.extractall(path)",
        "path.symlink_to(other)",
    ],
)
def test_the_checker_finds_dangerous_code(source: str):
    assert len(dangers({"mps_shards.x": source})) == 1


def test_a_pickle_in_a_sample_is_not_opened(tmp_path: Path):
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",)

    held = samples(3)
    for fields in held.values():
        fields["pkl"] = fields["pyd"] = pickle.dumps(Harm())
    held["cat/00002"]["cls"] = pickle.dumps(Harm())
    by_tarfile(tmp_path / "x.tar", held)
    data = ShardDataset(tmp_path / "x.tar", batch_size=None, on_bad_sample=SkipRules(max_bad=None))

    assert len(list(data)) == 2 and "is not a class number" in data.skipped.first[0].reason
    assert not (tmp_path / "harm").exists()


def test_links_devices_and_outside_paths_in_a_tar_are_not_followed(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    good = samples(1)["cat/00000"]
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("linked.cls")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        for key in ("../../outside", "/etc/absolute"):
            for field, content in good.items():
                info = tarfile.TarInfo(f"{key}.{field}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    before = sorted(tmp_path.parent.rglob("*"))

    given = [key for *_, key in ShardDataset(tmp_path / "x.tar", batch_size=None, keys=True)]

    assert given == ["../../outside", "/etc/absolute"]  # reading returns the names and writes nothing
    assert sorted(tmp_path.parent.rglob("*")) == before


# Claimed numbers without data


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Fail if Python's allocations exceed 16 MB, or if reading takes ten seconds of CPU time."""
    began = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 16 * MEGABYTE
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 10


def claiming(folder: Path, count: int, *, size: int | None = None) -> Path:
    """Return a set of one sparse shard that is large enough for the number of samples that its manifest claims."""
    source = shard_set([2])
    for name in ("s-000000.tar", INDEX_NAME):
        (folder / name).write_bytes((source / name).read_bytes())
    manifest = parse_manifest((source / MANIFEST_NAME).read_bytes(), where="m")
    size = manifest.bytes if size is None else size
    with (folder / "s-000000.tar").open("r+b") as tar:
        tar.truncate(size)
    record = msgspec.structs.replace(manifest.shards[0], samples=count, bytes=size)
    changed = msgspec.structs.replace(manifest, samples=count, bytes=size, shards=(record,))
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(changed))
    return folder


def test_samples_that_no_shard_could_hold_are_refused_when_opened(tmp_path: Path, little_memory: None):
    with pytest.raises(ManifestError, match=f"states {2**61} samples for s-000000.tar"):
        ShardDataset(claiming(tmp_path, 2**61), batch_size=8, shuffle=True)


def test_samples_that_the_index_does_not_hold_are_refused_before_they_are_ordered(tmp_path: Path, little_memory: None):
    """A sparse file can have any size without using disk space, so the index must have a row for each sample."""
    folder = claiming(tmp_path, 2**30, size=2**39)

    with pytest.raises(ManifestError, match=rf"index.npy has \(2,\) rows .* the manifest says {2**30}"):
        ShardDataset(folder, batch_size=8, shuffle=True)


def test_an_index_whose_header_claims_more_rows_than_the_file_is_refused(tmp_path: Path, little_memory: None):
    folder = claiming(tmp_path, 2**30, size=2**39)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(ROW), "fortran_order": False, "shape": (2**30,)}
    )
    (folder / INDEX_NAME).write_bytes(stream.getvalue())

    with pytest.raises(ManifestError, match=r"index.npy is not an index: it has 192 bytes, too few for its shape"):
        ShardDataset(folder, batch_size=8, shuffle=True)


def test_deep_json_and_endless_classes_are_refused(tmp_path: Path, little_memory: None):
    for number, content in enumerate((b"[" * MEGABYTE, b'{"classes":' + b"[" * MEGABYTE, b'{"a":' * MEGABYTE)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / MANIFEST_NAME).write_bytes(content)
        with pytest.raises(ManifestError):
            ShardDataset(folder, batch_size=8)


def test_a_manifest_of_gigabytes_is_not_read(tmp_path: Path, little_memory: None):
    with (tmp_path / MANIFEST_NAME).open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(OSError, match=f"has {1 << 40} bytes, but at most {1 << 28} are accepted"):
        ShardDataset(tmp_path, batch_size=8)


def test_rows_are_checked_before_samples_are_read(tmp_path: Path, little_memory: None):
    """A row can claim 4 GB of a sparse file, so rows must be on block boundaries, in order, and inside the shard."""
    folder = claiming(tmp_path, 2, size=2**39)
    index = np.load(folder / INDEX_NAME)
    index["size"][1] = 2**32 - 512 + 1
    np.save(folder / INDEX_NAME, index)

    with pytest.raises(ManifestError, match=r"index row 1 of shard s-000000\.tar"):
        ShardSet(Location(LocalFolder(folder))).read(0)


# Bombs


def test_a_gzip_bomb_is_refused_long_before_it_is_unpacked(tmp_path: Path):
    info = tarfile.TarInfo("x.jpg")
    info.size = 1 << 30  # as large as a member may be, and all zeros
    packer = zlib.compressobj(9, wbits=31)
    with (tmp_path / "x.tar.gz").open("wb") as file:
        file.write(packer.compress(info.tobuf()))
        for _ in range(200):
            file.write(packer.compress(bytes(MEGABYTE)))
        file.write(packer.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ShardError, match="is over 200 times as large as its compressed file"):
        list(ShardDataset(tmp_path, batch_size=1))

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 190 * 1024


def test_compressed_photographs_and_small_files_of_zeros_are_accepted(tmp_path: Path):
    held = {**samples(4), "zeros": {**samples(1)["cat/00000"], "bin": bytes(8 * MEGABYTE)}}
    plain = by_tarfile(tmp_path / "x.tar", held).read_bytes()
    (tmp_path / "x.tar").write_bytes(gzip.compress(plain))

    assert len(list(ShardDataset(tmp_path, batch_size=None))) == 5


def sparse_gnu(path: Path) -> None:
    """Return a member in GNU's old sparse format that describes 1 TB of zeros in two blocks."""
    info = tarfile.TarInfo("x.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = block[398:410] = b"%011o\0" % 0
    block[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(bytes(block) + bytes(1024))


def sparse_pax(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x.jpg")
        info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.name": "x.jpg"}
        tar.addfile(info)


def large_pax(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("x.jpg")
        info.pax_headers = {"size": str(1 << 40)}
        tar.addfile(info)


def large_plain(path: Path) -> None:
    info = tarfile.TarInfo("x.jpg")
    info.size = 1 << 40
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def same_name_for_all(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"path": "x.jpg"}) as tar:
        for number in range(2):
            tar.addfile(tarfile.TarInfo(f"{number}.jpg"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (sparse_gnu, "is a sparse file, which shards cannot hold"),
        (sparse_pax, "is a sparse file, which shards cannot hold"),
        (large_pax, f"has {1 << 40} bytes, but at most {1 << 30} are accepted"),
        (large_plain, f"has {1 << 40} bytes, but at most {1 << 30} are accepted"),
        (same_name_for_all, "states one name or size for all members"),
    ],
)
def test_a_sparse_member_is_refused(make: Callable[[Path], None], complaint: str, tmp_path: Path, little_memory: None):
    make(tmp_path / "x.tar")

    with pytest.raises(ShardError, match=complaint):
        list(ShardDataset(tmp_path, batch_size=1))


def test_the_caller_can_lower_the_limit_of_pixels():
    data = ShardDataset(shard_set([3]), batch_size=1, read_options=ReadOptions(max_pixels=100))

    with pytest.raises(DecodeError, match=r"12 x 10 pixels, at most 100 are accepted \(max_pixels\)"):
        list(data)
    with DeviceLoader(data, device="cpu", num_threads=1) as loader, pytest.raises(DecodeError, match="max_pixels"):
        list(loader)
    assert len(list(ShardDataset(shard_set([3]), batch_size=1, read_options=ReadOptions(max_pixels=120)))) == 3


# Messages


def test_names_from_a_set_cannot_control_the_terminal_or_add_lines(tmp_path: Path):
    log = tmp_path / "bad.jsonl"
    key = "a\x1b[2J\n{}"
    by_tarfile(tmp_path / "x.tar", {key: {"cls": b"x\x1b[31m", "jpg": samples(1)["cat/00000"]["jpg"]}})
    data = ShardDataset(tmp_path, batch_size=1, on_bad_sample=SkipRules(max_bad=None, log=log))

    list(data)

    [line] = log.read_text().splitlines()
    assert json.loads(line)["key"] == key
    assert "\x1b" not in str(data.skipped.first[0]) + line and "\n" not in str(data.skipped.first[0])


def test_names_in_errors_of_webdataset_cannot_control_the_terminal(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a\x1b[2J\nname.jpg"))

    with pytest.raises(ShardError, match="duplicate file name") as raised:
        list(ShardDataset(tmp_path, batch_size=1))

    assert str(raised.value).isprintable()


def test_damage_in_one_set_does_not_affect_other_open_sets():
    """One process reads many sets, and an error in one set does not change the others."""
    good, bad = (
        ShardDataset(shard_set([4]), batch_size=None, keys=True),
        ShardDataset(shard_set([4], broken=(0,)), batch_size=None),
    )
    reading = iter(good)
    first = next(reading)

    with pytest.raises(DataError):
        list(bad)

    assert [first[2], *(key for *_, key in reading)] == keys(range(4))
