"""An archive gives the same bytes as the folder that it unpacks to, and nothing is unpacked to disk."""

import contextlib
import gzip
import io
import os
import pickle
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import pack
from mps_shards.errors import ConfigError, DataError, ShardsError, StorageError
from mps_shards.packing.sources.archive_files import ArchiveFiles
from mps_shards.packing.sources.tar_archive import GzipBytes
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write
from tests.support.trees import TREES


def zipped(folder: Path, archive: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def tarred(folder: Path, archive: Path, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(archive, mode, format=form) as file:
        file.add(folder, ".")
    return archive


ARCHIVES: dict[str, Callable[[Path, Path], Path]] = {
    "deflated.zip": zipped,
    "stored.zip": lambda folder, archive: zipped(folder, archive, zipfile.ZIP_STORED),
    "pax.tar": tarred,
    "gnu.tar": lambda folder, archive: tarred(folder, archive, form=tarfile.GNU_FORMAT),
    "imgs.tar.gz": lambda folder, archive: tarred(folder, archive, "w:gz"),
    "imgs.tgz": lambda folder, archive: tarred(folder, archive, "w:gz"),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("layout", sorted(set(TREES) - {"list"}))
def test_an_archive_gives_the_bytes_of_its_folder(layout: str, name: str, tmp_path: Path):
    TREES[layout](tmp_path / "tree")
    archive = ARCHIVES[name](tmp_path / "tree", tmp_path / name)

    pack(tmp_path / "tree", tmp_path / "from-folder")
    pack(archive, tmp_path / "from-archive", workers=3)

    assert contents(tmp_path / "from-archive") == contents(tmp_path / "from-folder")


@pytest.mark.parametrize("name", ARCHIVES)
def test_long_and_foreign_names_are_read(name: str, tmp_path: Path):
    names = [f"{'long' * 30}/{'name' * 40}.jpg", "café/ü x.jpg", "cat/v1.2 (copy).JPG", "cat/deep/er/x.jpg"]
    source = write(tmp_path / "imgs", {each: tiny_jpeg(seed) for seed, each in enumerate(names)})
    archive = ARCHIVES[name](source, tmp_path / name)

    pack(source, tmp_path / "from-folder")
    pack(archive, tmp_path / "from-archive")

    assert contents(tmp_path / "from-archive") == contents(tmp_path / "from-folder")


def test_shards_are_put_beside_an_archive_by_default(tmp_path: Path):
    class_folders(tmp_path / "imgs")

    for name in ("a.zip", "b.tar", "c.tar.gz"):
        assert pack(
            ARCHIVES["deflated.zip" if name == "a.zip" else "pax.tar"](tmp_path / "imgs", tmp_path / name)
        ).out == (tmp_path / f"{name[0]}-shards")


def test_a_pack_of_an_archive_continues_after_a_failure(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"{c}/{n}.jpg": tiny_jpeg(n) for c in "ab" for n in range(6)})
    archive = zipped(source, tmp_path / "imgs.zip")
    pack(archive, tmp_path / "whole", shard_samples=2)

    def fail(samples: int, size: int) -> None:
        if any((tmp_path / "out").glob("*-000002.tar")):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pack(archive, tmp_path / "out", shard_samples=2, workers=1, on_progress=fail)
    report = pack(archive, tmp_path / "out", shard_samples=2)

    assert report.kept == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_tar_of_tars_is_read_as_folders(tmp_path: Path):
    source = write(
        tmp_path / "imgs", {f"{c}/{c}_{n}.JPEG": tiny_jpeg(n) for c in ("n01440764", "n01443537") for n in range(3)}
    )
    (tmp_path / "tars").mkdir()
    for folder in sorted(source.iterdir()):
        tarred(folder, tmp_path / "tars" / f"{folder.name}.tar")
    for name in ("pax.tar", "stored.zip", "imgs.tar.gz"):
        archive = ARCHIVES[name](tmp_path / "tars", tmp_path / name)
        pack(archive, tmp_path / f"from-{name}")

    pack(source, tmp_path / "from-folder")
    for name in ("pax.tar", "stored.zip", "imgs.tar.gz"):
        assert contents(tmp_path / f"from-{name}") == contents(tmp_path / "from-folder")


def test_a_stored_zip_inside_of_an_archive_is_read_as_a_folder(tmp_path: Path):
    source = write(
        tmp_path / "imgs", {f"{s}/{c}/{n}.jpg": tiny_jpeg(n) for s in ("train", "val") for c in "ab" for n in (0, 1)}
    )
    (tmp_path / "zips").mkdir()
    for folder in sorted(source.iterdir()):
        zipped(folder, tmp_path / "zips" / f"{folder.name}.zip")
    pack(source, tmp_path / "from-folder")

    for name in ("pax.tar", "stored.zip"):
        pack(ARCHIVES[name](tmp_path / "zips", tmp_path / name), tmp_path / f"from-{name}")
        assert contents(tmp_path / f"from-{name}") == contents(tmp_path / "from-folder")
    with pytest.raises(ConfigError, match=r"holds no images, only train\.zip, which is compressed.*unpack all\.zip"):
        pack(zipped(tmp_path / "zips", tmp_path / "all.zip"))


def test_metadata_files_of_macos_are_left_out(tmp_path: Path):
    archive = tmp_path / "imgs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("cat/x.jpg", "__MACOSX/cat/._x.jpg", "__MACOSX/cat/y.jpg", "cat/.DS_Store", ".hidden/z.jpg"):
            file.writestr(name, tiny_jpeg())

    report = pack(archive, tmp_path / "out")

    assert (report.sets[0].samples, report.classes) == (1, ("cat",))


def test_the_last_of_several_members_with_one_path_is_packed(tmp_path: Path):
    with tarfile.open(tmp_path / "imgs.tar", "w") as file:
        for seed in range(2):
            member = tarfile.TarInfo("cat/x.jpg")
            member.size = len(tiny_jpeg(seed))
            file.addfile(member, io.BytesIO(tiny_jpeg(seed)))

    report = pack(tmp_path / "imgs.tar", tmp_path / "out")

    assert report.sets[0].samples == 1
    assert tiny_jpeg(1) in (tmp_path / "out/shard-000000.tar").read_bytes()


def test_links_in_a_tar_are_followed(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/x.jpg": tiny_jpeg(1), "dog/x.jpg": tiny_jpeg(2)})
    os.link(source / "cat/x.jpg", source / "cat/y.jpg")
    os.symlink("../dog/x.jpg", source / "cat/z.jpg")

    pack(source, tmp_path / "from-folder")
    pack(tarred(source, tmp_path / "imgs.tar"), tmp_path / "from-archive")

    assert contents(tmp_path / "from-archive") == contents(tmp_path / "from-folder")


def test_a_broken_link_is_named(tmp_path: Path):
    source = write(tmp_path / "imgs", {"cat/x.jpg": tiny_jpeg(1)})
    os.symlink("gone.jpg", source / "cat/z.jpg")

    with pytest.raises(DataError, match=r"imgs\.tar/cat/z\.jpg is a link to a file that does not exist"):
        pack(tarred(source, tmp_path / "imgs.tar"))


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"BZh9", "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"Rar!\x1a", "RAR")],
)
def test_archives_that_cannot_be_read_are_named(head: bytes, kind: str, tmp_path: Path):
    (tmp_path / "imgs.archive").write_bytes(head + bytes(1000))

    with pytest.raises(ConfigError, match=rf"imgs\.archive is a {kind} archive.*unpack it"):
        pack(tmp_path / "imgs.archive")


def test_a_member_outside_of_the_archive_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as file:
        file.writestr("../../x.jpg", tiny_jpeg())

    with pytest.raises(DataError, match="points outside the archive"):
        pack(tmp_path / "imgs.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    archive = bytearray(zipped(write(tmp_path / "imgs", {"x.jpg": tiny_jpeg()}), tmp_path / "imgs.zip").read_bytes())
    at = archive.index(b"PK\1\2") + 8
    archive[at] |= 1
    (tmp_path / "imgs.zip").write_bytes(archive)

    with pytest.raises(DataError, match=r"member 'x\.jpg' is encrypted"):
        pack(tmp_path / "imgs.zip")


def test_a_zip_with_sixty_four_bit_numbers_is_read(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as file:
        for n in range(3):
            with file.open(f"cat/{n}.jpg", "w", force_zip64=True) as member:
                member.write(tiny_jpeg(n))
    content = bytearray((tmp_path / "imgs.zip").read_bytes())
    # force_zip64 only changes local headers, so move the numbers of the directory to its 64-bit records too
    with zipfile.ZipFile(tmp_path / "imgs.zip") as file:
        begin, count = file.start_dir, len(file.infolist())
    end = content.index(b"PK\5\6")
    wide = b"PK\6\6" + (44).to_bytes(8, "little") + b"\x2d\0\x2d\0" + bytes(8)
    wide += count.to_bytes(8, "little") * 2 + (end - begin).to_bytes(8, "little") + begin.to_bytes(8, "little")
    locator = b"PK\6\7" + bytes(4) + end.to_bytes(8, "little") + b"\1\0\0\0"
    tail = content[end : end + 8] + b"\xff\xff\xff\xff" + b"\xff\xff\xff\xff\xff\xff\xff\xff" + content[end + 20 :]
    (tmp_path / "imgs.zip").write_bytes(content[:end] + wide + locator + tail)

    assert pack(tmp_path / "imgs.zip", tmp_path / "out").sets[0].samples == 3


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_cut_off_archive_is_an_error(name: str, tmp_path: Path):
    class_folders(tmp_path / "imgs")
    archive = ARCHIVES[name](tmp_path / "imgs", tmp_path / name)
    content = archive.read_bytes()

    for size in (0, 1, 100, 700, len(content) // 2):
        archive.write_bytes(content[:size])
        with pytest.raises((DataError, ConfigError, StorageError)):
            pack(archive, tmp_path / "out")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("archives")
    write(folder / "imgs", {f"{c}/{n}.jpg": tiny_jpeg(n) for c in "ab" for n in range(2)})
    return {name: make(folder / "imgs", folder / name).read_bytes() for name, make in ARCHIVES.items()}


@settings(max_examples=150)
@given(
    name=st.sampled_from(sorted(ARCHIVES)),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_a_damaged_archive_is_an_error_or_read(name: str, damage: list[tuple[float, int]], archives: dict[str, bytes]):
    content = bytearray(archives[name])
    for share, value in damage:
        content[round(share * (len(content) - 1))] = value

    with tempfile.TemporaryDirectory() as folder:
        archive = write(Path(folder), {name: bytes(content)}) / name
        with contextlib.suppress(ShardsError):
            pack(archive, Path(folder, "out"))


def test_a_deflated_member_with_a_wrong_checksum_is_named(tmp_path: Path):
    archive = zipped(write(tmp_path / "imgs", {"cat/x.jpg": tiny_jpeg()}), tmp_path / "i.zip", zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[content.index(tiny_jpeg()) + 50] ^= 255
    archive.write_bytes(content)

    with pytest.raises(DataError, match=r"i\.zip: 'cat/x\.jpg' is damaged: its checksum does not match"):
        pack(archive)


def test_a_member_with_a_null_character_in_its_name_is_named(tmp_path: Path):
    archive = zipped(write(tmp_path / "imgs", {"cat/xy.jpg": tiny_jpeg()}), tmp_path / "i.zip", zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"cat/xy.jpg", b"cat/x\0.jpg"))

    with pytest.raises(DataError, match=r"i\.zip: the name of the member 'cat/x\\x00\.jpg' contains a null character"):
        pack(archive)


def test_an_archive_can_be_sent_to_another_process(tmp_path: Path):
    class_folders(tmp_path / "imgs")
    for name, make in ARCHIVES.items():
        files = ArchiveFiles(make(tmp_path / "imgs", tmp_path / name))
        files.names()

        again = pickle.loads(pickle.dumps(files))

        assert again.read("class-0/00.jpg") == (tmp_path / "imgs/class-0/00.jpg").read_bytes()
        assert again.names("class-1/") == sorted(os.listdir(tmp_path / "imgs/class-1"))


@settings(max_examples=30)
@given(
    parts=st.lists(st.binary(max_size=40_000) | st.integers(1, 90_000).map(bytes), min_size=1, max_size=5),
    spans=st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 60_000)), max_size=12),
    step=st.integers(1, 5000),
    max_content=st.integers(0, 500_000),
)
def test_gzip_files_are_read_at_any_place(
    parts: list[bytes], spans: list[tuple[int, int]], step: int, max_content: int
):
    whole = b"".join(parts)
    packed = b"".join(map(gzip.compress, parts))  # several gzip files in a row are one gzip file
    reader = GzipBytes(lambda start, stop: packed[start:stop], len(packed), where="x.gz", max_content=max_content)
    reader._step = step

    for start in range(0, len(whole) + 1, 10_000):  # as a tar is listed
        assert reader.read(start, start + 512) == whole[start : start + 512]
    assert reader.read(0, len(whole) + 1) == whole
    for start, size in spans:
        assert reader.read(start, start + size) == whole[start : start + size]


def test_a_long_gzip_file_gives_the_bytes_and_the_duplicates_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = write(tmp_path / "imgs", {f"{c}/{n}.jpg": tiny_jpeg(n) for c in "ab" for n in range(6)})
    archive = tarred(source, tmp_path / "imgs.tar.gz", "w:gz")
    monkeypatch.setattr(GzipBytes.__init__, "__kwdefaults__", {"max_content": 1000})  # as for hundreds of megabytes

    from_folder = pack(source, tmp_path / "from-folder")
    from_archive = pack(archive, tmp_path / "from-archive")

    assert from_archive.duplicates == from_folder.duplicates
    assert from_folder.duplicates.images == 6
    assert contents(tmp_path / "from-archive") == contents(tmp_path / "from-folder")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"imgs\.zip is empty \(0 bytes\); download it again"),
        (b"<!DOCTYPE html><html>", "imgs.zip is an HTML page, not an archive: its download failed"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer, not an archive: run 'git lfs pull'"),
        (b"hello world", "imgs.zip is neither a zip nor a tar archive: it begins with b'hello wo'"),
    ],
)
def test_files_in_the_place_of_an_archive_are_named(content: bytes, complaint: str, tmp_path: Path):
    (tmp_path / "imgs.zip").write_bytes(content)

    with pytest.raises(ConfigError, match=complaint):
        pack(tmp_path / "imgs.zip")


def test_a_link_to_a_folder_in_a_tar_is_named(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"{c}/{n}.jpg": tiny_jpeg(n) for c in "ab" for n in range(2)})
    (source / "c").symlink_to("a")

    with pytest.raises(ConfigError, match="c is a link to the folder a, which is not followed inside of an archive"):
        pack(tarred(source, tmp_path / "imgs.tar"))


def test_a_zip_member_is_never_inflated_beyond_its_stated_size(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/0.jpg", b"\xff\xd8\xff" + bytes(100 << 20))
    content = bytearray((tmp_path / "imgs.zip").read_bytes())
    record = content.rfind(b"PK\1\2")
    content[record + 24 : record + 28] = (100).to_bytes(4, "little")
    (tmp_path / "imgs.zip").write_bytes(content)

    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"'a/0\.jpg' is damaged: its checksum does not match"):
            ArchiveFiles(tmp_path / "imgs.zip").read("a/0.jpg")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
