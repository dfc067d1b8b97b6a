"""Folders of images are listed in their layout, or refused with the file that does not fit."""

import os
from pathlib import Path

import pytest

from mps_shards.errors import ConfigError, DataError, StorageError
from tests.support.images import tiny_jpeg, write
from tests.support.listings import list_source

IMAGE = tiny_jpeg()


def folder_of(root: Path, *names: str) -> Path:
    """Make a folder with these images."""
    return write(root / "imgs", dict.fromkeys(names, IMAGE))


def listed(source: Path, **options) -> dict[str, list[tuple[str, int]]]:
    """List a folder and return paths and labels by split."""
    listing = list_source(source, **options)
    return {split.name: [(entry.path, entry.label) for entry in split.entries] for split in listing.splits}


def test_class_folders_are_numbered_in_the_order_of_their_names(tmp_path: Path):
    source = folder_of(tmp_path, "dog/b.jpg", "dog/a.jpg", "cat/z.jpg", "Zebra/x.jpg", "10/x.jpg", "9/x.jpg")

    listing = list_source(source)

    assert listing.classes == ("10", "9", "Zebra", "cat", "dog")  # by code point, as torchvision's ImageFolder
    assert listed(source) == {
        "": [("10/x.jpg", 0), ("9/x.jpg", 1), ("Zebra/x.jpg", 2), ("cat/z.jpg", 3), ("dog/a.jpg", 4), ("dog/b.jpg", 4)]
    }
    assert listing.describe() == "class folders: 5 classes, 6 images"


def test_classes_and_labels_are_those_of_torchvision_s_image_folder(photos: Path):
    from torchvision.datasets import ImageFolder

    reference = ImageFolder(str(photos))
    listing = list_source(photos)

    assert list(listing.classes) == reference.classes
    assert [(str(photos / entry.path), entry.label) for entry in listing.splits[0].entries] == reference.samples


def test_images_deep_inside_a_class_folder_belong_to_it(tmp_path: Path):
    source = folder_of(tmp_path, "cat/2024/may/x.jpg", "cat/y.jpg", "dog/x.jpg")

    assert listed(source) == {"": [("cat/2024/may/x.jpg", 0), ("cat/y.jpg", 0), ("dog/x.jpg", 1)]}


@pytest.mark.parametrize("names", [("train", "val"), ("train", "val", "test"), ("Training", "validation"), ("test",)])
def test_split_folders_share_their_classes(tmp_path: Path, names: tuple[str, ...]):
    source = folder_of(tmp_path, *(f"{name}/{label}/x.jpg" for name in names for label in ("dog", "cat")))

    listing = list_source(source)

    assert listing.classes == ("cat", "dog")
    assert listed(source) == {name: [(f"{name}/cat/x.jpg", 0), (f"{name}/dog/x.jpg", 1)] for name in sorted(names)}
    assert {split.task for split in listing.splits} == {"classification"}


def test_a_class_that_one_split_lacks_keeps_its_number_in_all(tmp_path: Path):
    source = folder_of(tmp_path, "train/ant/x.jpg", "train/bee/x.jpg", "val/bee/x.jpg", "val/cow/x.jpg")

    assert list_source(source).classes == ("ant", "bee", "cow")
    assert listed(source)["val"] == [("val/bee/x.jpg", 1), ("val/cow/x.jpg", 2)]


def test_a_flat_test_split_beside_labelled_ones_is_unlabeled(tmp_path: Path):
    source = folder_of(tmp_path, "train/cat/x.jpg", "train/dog/x.jpg", "test/1.jpg", "test/2.jpg")

    listing = list_source(source)

    assert {split.name: split.task for split in listing.splits} == {"test": "unlabeled", "train": "classification"}
    assert listed(source)["test"] == [("test/1.jpg", -1), ("test/2.jpg", -1)]
    assert listing.classes == ("cat", "dog")
    assert listing.describe() == "split folders: 2 classes, 2 splits (test, train), 4 images"


def test_a_flat_folder_has_no_labels(tmp_path: Path):
    source = folder_of(tmp_path, "b.jpg", "a.png", "c.webp")

    listing = list_source(source)

    assert listed(source) == {"": [("a.png", -1), ("b.jpg", -1), ("c.webp", -1)]}
    assert (listing.classes, listing.splits[0].task) == ((), "unlabeled")


def test_a_layout_can_be_chosen(tmp_path: Path):
    source = folder_of(tmp_path, "train/x.jpg", "val/x.jpg")

    assert listed(source, layout="flat") == {"": [("train/x.jpg", -1), ("val/x.jpg", -1)]}
    assert listed(source, layout="classes") == {"": [("train/x.jpg", 0), ("val/x.jpg", 1)]}
    assert listed(source, layout="splits") == {"train": [("train/x.jpg", -1)], "val": [("val/x.jpg", -1)]}
    assert listed(folder_of(tmp_path / "b", "fold 1/a/x.jpg", "fold 2/b/x.jpg"), layout="splits") == {
        "fold 1": [("fold 1/a/x.jpg", 0)],
        "fold 2": [("fold 2/b/x.jpg", 1)],
    }
    with pytest.raises(ConfigError, match="layout must be one of 'auto', 'classes', 'splits', 'flat'"):
        list_source(source, layout="tree")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "extension", ["jpg", "JPG", "jpeg", "png", "PNG", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm"]
)
def test_images_are_recognised_by_their_extension_in_any_case(tmp_path: Path, extension: str):
    assert listed(folder_of(tmp_path, f"cat/x.{extension}")) == {"": [(f"cat/x.{extension}", 0)]}


def test_hidden_files_and_folders_are_ignored(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg", "cat/.x.jpg", "cat/._x.jpg", ".git/y.jpg", ".DS_Store/z.jpg", "cat/.jpg")

    assert listed(source) == {"": [("cat/x.jpg", 0)]}
    assert list_source(source).ignored == {}


def test_other_files_are_counted_by_extension(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg", "cat/x.txt", "cat/y.TXT", "labels.csv", "cat/README", "cat/x.jpg.bak")

    assert list_source(source).ignored == {".txt": 2, ".csv": 1, "README": 1, ".bak": 1}


def test_class_folders_without_images_are_reported_and_are_not_classes(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg", "dog/x.jpg")
    write(source, {"empty/readme.txt": b"nothing"})
    (source / "bare").mkdir()

    listing = list_source(source)

    assert listing.classes == ("cat", "dog")
    assert listing.empty == ("bare", "empty")


def test_linked_files_and_folders_are_followed(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg")
    elsewhere = write(tmp_path / "elsewhere", {"dogs/1.jpg": IMAGE, "2.jpg": IMAGE})
    os.symlink(elsewhere / "dogs", source / "dog")
    os.symlink(elsewhere / "2.jpg", source / "cat" / "y.jpg")

    assert listed(source) == {"": [("cat/x.jpg", 0), ("cat/y.jpg", 0), ("dog/1.jpg", 1)]}


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_folder_and_a_link_to_it_are_two_classes_as_for_torchvision(tmp_path: Path, name: str):
    source = folder_of(tmp_path, "cat/x.jpg")
    os.symlink(source / "cat", source / name)

    assert listed(source) == {"": [(f"{label}/x.jpg", n) for n, label in enumerate(sorted(("cat", name)))]}


def test_circular_links_are_followed_only_once(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg", "dog/y.jpg")
    os.symlink(source, source / "cat" / "up")
    os.symlink(".", source / "dog" / "here")
    os.symlink(source / "cat", source / "dog" / "cat")

    paths = [path for path, _ in listed(source)[""]]

    assert paths == ["cat/x.jpg", "dog/cat/x.jpg", "dog/y.jpg"]


def test_a_dangling_link_is_named_or_left_out(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg")
    os.symlink(tmp_path / "gone", source / "cat" / "y.jpg")

    with pytest.raises(DataError, match=r"imgs/cat/y\.jpg is a link to a file that does not exist; remove the link"):
        list_source(source)

    [left_out] = list_source(source, skip_bad=True).bad
    assert left_out.path == "cat/y.jpg"


@pytest.mark.parametrize(
    ("names", "stray"),
    [
        (("a.jpg", "cat/x.jpg"), "a.jpg is next to folders of images, without a class; move it"),
        (("a.jpg", "b.jpg", "train/cat/x.jpg"), "a.jpg and 1 other image are .* without a class; move them"),
        (
            ("train/a.jpg", "train/cat/x.jpg"),
            r"train/a\.jpg is next to class folders and has no class; move it into a class folder",
        ),
        (("train/cat/x.jpg", "val/a.jpg", "val/dog/x.jpg"), r"val/a\.jpg is next to class folders"),
    ],
)
def test_an_image_that_would_have_no_class_is_named(tmp_path: Path, names: tuple[str, ...], stray: str):
    with pytest.raises(ConfigError, match=stray):
        list_source(folder_of(tmp_path, *names))


def test_images_that_would_share_a_key_are_both_named(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg", "cat/x.png")

    with pytest.raises(DataError, match=r"cat/x\.jpg and .*cat/x\.png would share the key 'x'.*--keys name"):
        list_source(source)
    assert listed(source, by_name=True) == {"": [("cat/x.jpg", 0), ("cat/x.png", 0)]}


@pytest.mark.parametrize("twins", [("cat/x.jpg", "cat/x.JPG"), ("x.jpg", "x.jpeg")])
def test_extensions_do_not_distinguish_keys(tmp_path: Path, twins: tuple[str, str]):
    source = folder_of(tmp_path, *twins)
    if len(list(source.rglob("x.*"))) < 2:
        pytest.skip("the file system does not tell them apart either")

    with pytest.raises(DataError, match="would share the key"):
        list_source(source)


def test_an_empty_file_is_named(tmp_path: Path):
    source = write(folder_of(tmp_path, "cat/x.jpg"), {"cat/y.jpg": b""})

    with pytest.raises(DataError, match=r"cat/y\.jpg is empty \(0 bytes\)"):
        list_source(source)


@pytest.mark.parametrize("files", [{}, {"cat/notes.txt": b"x"}, {".x.jpg": IMAGE}])
def test_a_folder_without_images_is_refused_with_the_known_extensions(tmp_path: Path, files: dict[str, bytes]):
    (tmp_path / "imgs").mkdir()

    with pytest.raises(ConfigError, match=r"no images found in .*imgs \(looked for jpg, jpeg, png"):
        list_source(write(tmp_path / "imgs", files))


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path):
    source = folder_of(tmp_path, "cat/x.jpg")
    (source / "dog").mkdir()
    (source / "dog").chmod(0)
    if os.access(source / "dog", os.R_OK):
        pytest.skip("this user may read everything")

    with pytest.raises(StorageError, match="dog: Permission denied"):
        list_source(source)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\\b"])
def test_a_folder_name_that_a_manifest_cannot_hold_is_refused(tmp_path: Path, name: bytes):
    source = folder_of(tmp_path, "cat/x.jpg")
    try:
        os.mkdir(os.fsencode(source) + b"/" + name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    write(source, {f"{os.fsdecode(name)}/y.jpg": IMAGE})

    with pytest.raises(DataError, match=r"the folder name '.*' cannot name a class or split; rename it"):
        list_source(source)
    assert len(listed(source, layout="flat")[""]) == 2
