"""Unpacking restores the packed folder bit for bit, and never writes outside of it."""

import hashlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards import pack
from mps_shards.errors import DataError, ManifestError, ShardError, StorageError
from mps_shards.shards.manifest import Manifest, Packed, ShardRecord, Task, manifest_bytes
from mps_shards.shards.sample_index import index_bytes, rows
from mps_shards.shards.tar import END, header, padding
from mps_shards.shardset import unpacking
from mps_shards.shardset.unpacking import unpack
from tests.support.damage import copied, flip
from tests.support.files import contents
from tests.support.images import encoded, picture, tiny_jpeg, write
from tests.support.sets import shard_set

Fields = Sequence[tuple[str, bytes]]


def made(folder: Path, samples: Sequence[Fields], *, task: Task = "unlabeled", classes: tuple[str, ...] = ()) -> Path:
    """Return a set of one shard with these members, which may be hostile or from another tool."""
    folder.mkdir()
    entries, pieces, offset = [], [], 0
    for fields in samples:
        content = b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in fields)
        entries.append((offset, len(content), zlib.crc32(content)))
        pieces.append(content)
        offset += len(content)
    tar = b"".join([*pieces, END])
    (folder / "s.tar").write_bytes(tar)
    record = ShardRecord(name="s.tar", samples=len(samples), bytes=len(tar), sha256=hashlib.sha256(tar).hexdigest())
    index = index_bytes([rows(entries)])
    (folder / "index.npy").write_bytes(index)
    manifest = Manifest(
        task=task,
        classes=classes,
        samples=len(samples),
        bytes=len(tar),
        shards=(record,),
        index_sha256=hashlib.sha256(index).hexdigest(),
        packed=Packed(version="0", layout="tests", seed=None),
    )
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest))
    return folder


SOURCES = {
    "class folders": {"cat/x.jpg": tiny_jpeg(1), "cat/y.JPG": tiny_jpeg(2), "dog/deep/er/x.png": tiny_jpeg(3)},
    "flat": {"x.jpg": tiny_jpeg(1), "v1.2_a.jpeg": tiny_jpeg(2), "Ünï 猫.webp": tiny_jpeg(3)},
    "splits": {f"{split}/{name}/x.jpg": tiny_jpeg(5) for split in ("train", "val") for name in "ab"},
    "flat test split": {"train/a/x.jpg": tiny_jpeg(1), "test/x.jpg": tiny_jpeg(2)},
    "awkward": {
        "a.b/v1.2.final.jpg": tiny_jpeg(1),
        "__meta__/x.jpg": tiny_jpeg(2),
        "100%/50%25.JPG": tiny_jpeg(3),
        "a.b/back\\slash.jpg": tiny_jpeg(4),
        "a.b/line\nfeed.jpg": tiny_jpeg(5),
        "long/" + "n" * 150 + ".jpg": tiny_jpeg(6),
        "long/" + "n" * 251 + ".jpg": tiny_jpeg(7),
        "Case/x.jpg": tiny_jpeg(8),
        "case/x.jpg": tiny_jpeg(9),
    },
}


@pytest.mark.parametrize("options", [{}, {"shard_samples": 1}, {"keys": "name"}], ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_packing_and_unpacking_gives_the_folder_back(tmp_path: Path, source: str, options: dict):
    folder = write(tmp_path / "imgs", SOURCES[source])
    shards = pack(folder, yes=True, **options).out  # keeps the classes Case and case apart

    report = unpack(shards, tmp_path / "again")

    assert contents(tmp_path / "again") == SOURCES[source]
    assert (report.files, report.samples, report.already) == (len(SOURCES[source]), len(SOURCES[source]), 0)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: not name.startswith(".")
)


@settings(max_examples=15)
@given(
    st.dictionaries(
        st.tuples(names.filter(lambda name: "\\" not in name), names), st.binary(max_size=600), min_size=1, max_size=5
    )
)
def test_all_names_and_bytes_are_restored(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, str], bytes]
):
    root = tmp_path_factory.mktemp("any")
    held = {f"{folder}/{stem}.jpg": b"\xff\xd8\xff" + content for (folder, stem), content in files.items()}
    shards = pack(write(root / "imgs", held), layout="classes", keys="name", check=False).out

    unpack(shards, root / "again")

    assert contents(root / "again") == held


def test_files_that_differ_only_in_the_extension_are_restored(tmp_path: Path):
    held = {"a/x.jpg": tiny_jpeg(1), "a/x.png": tiny_jpeg(2)}

    unpack(pack(write(tmp_path / "imgs", held), keys="name").out, tmp_path / "again")

    assert contents(tmp_path / "again") == held


@pytest.mark.parametrize("keys", ["stem", "name"])
@pytest.mark.parametrize("folder", ["", "train/"])
def test_images_and_masks_are_restored(tmp_path: Path, folder: str, keys: Literal["stem", "name"]):
    files = {}
    for n in range(3):
        files[f"{folder}images/{n}.jpg"] = encoded(picture("RGB", seed=n), "JPEG")
        files[f"{folder}masks/{n}.png"] = encoded(picture("L", seed=n), "PNG")

    unpack(pack(write(tmp_path / "pairs", files), keys=keys, yes=True).out, tmp_path / "again")

    assert contents(tmp_path / "again") == files


def test_real_photographs_are_restored(photos: Path, tmp_path: Path):
    unpack(pack(photos, tmp_path / "shards", shard_size="60kB").out, tmp_path / "again", workers=3)

    assert contents(tmp_path / "again") == contents(photos)


def test_a_class_that_the_path_does_not_show_becomes_a_folder(tmp_path: Path):
    unpack(shard_set([3]), tmp_path / "out")

    assert sorted(contents(tmp_path / "out")) == ["cat/s00000.jpg", "dog/s00001.jpg", "fox/s00002.jpg"]


@pytest.mark.parametrize(
    ("key", "image", "mask"),
    [
        ("x", "images/x.jpg", "masks/x.png"),
        ("images/x", "images/x.jpg", "masks/x.png"),
        ("train/images/x", "train/images/x.jpg", "train/masks/x.png"),
        ("myimages/x", "images/myimages/x.jpg", "masks/myimages/x.png"),
        ("myimages/images/x", "myimages/images/x.jpg", "myimages/masks/x.png"),
    ],
)
def test_masks_are_written_beside_the_images_folder(tmp_path: Path, key: str, image: str, mask: str):
    held = [(f"{key}.jpg", tiny_jpeg()), (f"{key}.json", b"{}"), (f"{key}.mask.png", encoded(picture("L"), "PNG"))]
    folder = made(tmp_path / "set", [held], task="segmentation")

    unpack(folder, tmp_path / "out")

    assert contents(tmp_path / "out") == {
        image: held[0][1],
        image.replace(".jpg", ".json"): b"{}",
        mask: held[2][1],
    }


@pytest.mark.parametrize(
    "name",
    [
        "../x.jpg",
        "a/../../x.jpg",
        "%2E%2E/x.jpg",
        "a/%2E%2E/%2E%2E/x.jpg",
        "/etc/x.jpg",
        "a//x.jpg",
        "./../x.jpg",
        "a\\x.jpg",
        "a.b\\..\\x.jpg",
        "a%00b/x.jpg",
    ],
)
def test_names_outside_of_the_folder_are_refused_and_named(tmp_path: Path, name: str):
    folder = made(tmp_path / "set", [[("fine.jpg", b"x")], [(name, b"x")]])
    before = contents(tmp_path)

    with pytest.raises(DataError, match=r"is not unpacked") as raised:
        unpack(folder, tmp_path / "out")

    assert repr(name.removesuffix(".jpg"))[1:-1] in str(raised.value) and "s.tar" in str(raised.value)
    assert {path: data for path, data in contents(tmp_path).items() if path != "out/fine.jpg"} == before


def test_percent_escapes_that_our_keys_never_have_are_kept(tmp_path: Path):
    unpack(made(tmp_path / "set", [[("%2Fetc/x%41.jpg", b"x")]]), tmp_path / "out")

    assert list(contents(tmp_path / "out")) == ["%2Fetc/x%41.jpg"]


def test_a_class_name_outside_of_the_folder_is_refused(tmp_path: Path):
    folder = made(tmp_path / "set", [[("x.cls", b"0"), ("x.jpg", b"x")]], task="classification", classes=("../up",))

    with pytest.raises(DataError, match=r"'\.\./up/x\.jpg', which leads out of the folder"):
        unpack(folder, tmp_path / "out")

    assert not (tmp_path / "up").exists()


def test_existing_links_to_folders_are_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cat").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError, match="out/cat is a link"):
        unpack(shard_set([1]), tmp_path / "out", overwrite=True)

    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "out" / "cat").mkdir(parents=True)
    (tmp_path / "out" / "cat" / "s00000.jpg").symlink_to(tmp_path / "precious")

    with pytest.raises(DataError, match="exists with other content"):
        unpack(shard_set([1]), tmp_path / "out")
    unpack(shard_set([1]), tmp_path / "out", overwrite=True)

    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "out" / "cat" / "s00000.jpg").is_symlink()


def test_files_with_other_content_are_replaced_only_with_overwrite(tmp_path: Path):
    unpack(shard_set([3]), tmp_path / "out")
    good = contents(tmp_path / "out")
    (tmp_path / "out" / "dog" / "s00001.jpg").write_bytes(b"mine")

    with pytest.raises(DataError, match=r"dog/s00001\.jpg exists with other content; .*--overwrite"):
        unpack(shard_set([3]), tmp_path / "out")
    assert (tmp_path / "out" / "dog" / "s00001.jpg").read_bytes() == b"mine"

    unpack(shard_set([3]), tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == good


def test_a_stopped_run_can_be_repeated(tmp_path: Path):
    def stop_at_the_third(done: int) -> None:
        nonlocal samples
        samples += done
        if samples == 3:
            raise KeyboardInterrupt

    samples = 0
    with pytest.raises(KeyboardInterrupt):
        unpack(shard_set([5]), tmp_path / "out", on_progress=stop_at_the_third)
    kept = contents(tmp_path / "out")
    report = unpack(shard_set([5]), tmp_path / "out")

    assert len(kept) == 3 and not [path for path in kept if not path.endswith(".jpg")]
    assert (report.already, report.files) == (3, 5)
    assert kept.items() <= contents(tmp_path / "out").items()


def test_two_samples_with_the_same_path_are_refused(tmp_path: Path):
    folder = made(tmp_path / "set", [[("x.jpg", b"1")], [("./x.jpg", b"1")]])

    with pytest.raises(DataError, match=r"would become 'x\.jpg', and so would another sample"):
        unpack(folder, tmp_path / "out")


def test_names_that_some_disks_treat_as_equal_are_counted(tmp_path: Path):
    folder = made(tmp_path / "set", [[("a/x.jpg", b"1")], [("A/x.jpg", b"2")], [("a/X.jpg", b"3")]])

    assert unpack(folder, tmp_path / "out").clashes == 3  # the folder, too


@pytest.mark.parametrize("names", [("a/x.jpg", "A/y.jpg"), ("x.jpg", "X.jpg"), ("e\u0301.jpg", "\u00e9.jpg")])
def test_names_that_the_disk_treats_as_equal_are_refused_and_both_are_named(
    tmp_path: Path, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    folder = made(tmp_path / "set", [[(name, b"1")] for name in names])
    monkeypatch.setattr(unpacking._Writer, "_mixes_names", lambda writer: True)

    with pytest.raises(DataError) as refusal:
        unpack(folder, tmp_path / "out", workers=1)

    for name in names:
        assert repr(name.partition("/")[0]) in str(refusal.value) or repr(name) in str(refusal.value)
    assert "differ only in case or Unicode normal form" in str(refusal.value)


def test_damage_is_an_error_that_names_the_sample(tmp_path: Path):
    folder = copied([3], tmp_path / "set")
    flip(folder / "s-000000.tar", 1700)

    with pytest.raises(ShardError, match=r"sample number 0 of .*s-000000\.tar is damaged.*mps-shards verify"):
        unpack(folder, tmp_path / "out")


def test_what_is_no_set_is_an_error(tmp_path: Path):
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        unpack(tmp_path, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        unpack(shard_set([1]), tmp_path / "file")


def test_an_empty_set_is_an_empty_folder(tmp_path: Path):
    assert unpack(shard_set([]), tmp_path / "out").files == 0
    assert os.listdir(tmp_path / "out") == []
