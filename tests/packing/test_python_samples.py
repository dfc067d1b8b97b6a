"""Python objects are packed: sequences by several workers and resumably, iterators once, with images of any kind."""

import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError, StorageError
from tests.support.damage import manifest_of
from tests.support.files import contents
from tests.support.foreign import by_webdataset_s_reader
from tests.support.images import class_folders, encoded, expected, picture, pixels, tiny_jpeg, write


def held(folder: Path) -> list[tuple[Any, Any]]:
    """Return pixels and targets in the order of the keys."""
    samples = sorted(ShardDataset(folder, batch_size=None, keys=True), key=lambda sample: sample[2])
    return [(image.mul(255).round().byte().permute(1, 2, 0).numpy(), target) for image, target, _ in samples]


def pictures(count: int = 9) -> list[tuple[Image.Image, int]]:
    return [(Image.fromarray(pixels(8, 12, seed=n)), n % 3) for n in range(count)]


def assert_pictures(folder: Path, count: int = 9) -> None:
    found = held(folder)
    assert [int(target) for _, target in found] == [n % 3 for n in range(count)]
    for n, (image, _) in enumerate(found):
        assert np.array_equal(image, pixels(8, 12, seed=n))


def test_a_sequence_of_pairs_is_packed(tmp_path: Path):
    report = pack(pictures(), tmp_path / "out", workers=3)

    assert report.classes == ("0", "1", "2")
    assert_pictures(tmp_path / "out")


IMAGES = {
    "PIL": lambda n: Image.fromarray(pixels(8, 12, seed=n)),
    "array": lambda n: pixels(8, 12, seed=n),
    "tensor": lambda n: torch.from_numpy(pixels(8, 12, seed=n)).permute(2, 0, 1),
    "bytes": lambda n: encoded(Image.fromarray(pixels(8, 12, seed=n)), "PNG"),
    "undecoded": lambda n: {"bytes": encoded(Image.fromarray(pixels(8, 12, seed=n)), "PNG"), "path": None},
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("once", [False, True])
def test_images_of_every_kind_are_packed(kind: str, as_dict: bool, once: bool, tmp_path: Path):
    items: Any = [(IMAGES[kind](n), n % 3) for n in range(9)]
    if as_dict:
        items = [{"image": image, "label": label} for image, label in items]

    pack(iter(items) if once else items, tmp_path / "out")

    assert_pictures(tmp_path / "out")


def test_paths_are_packed_as_the_files_that_they_name(tmp_path: Path):
    write(tmp_path, {"a.jpg": tiny_jpeg(1), "b.png": encoded(picture("RGB"), "PNG")})

    pack([(tmp_path / "a.jpg", "cat"), (str(tmp_path / "b.png"), "ant")], tmp_path / "out")

    samples = dict(by_webdataset_s_reader([tmp_path / "out/shard-000000.tar"]))
    assert samples["00000000"] == {"jpg": tiny_jpeg(1), "cls": b"1"}
    assert samples["00000001"]["cls"] == b"0"
    assert manifest_of(tmp_path / "out").classes == ("ant", "cat")
    with pytest.raises(StorageError, match=r"cannot read .*gone\.jpg, the image of sample 0"):
        pack([(tmp_path / "gone.jpg", 0)], tmp_path / "none")


@pytest.mark.parametrize("shape", ["gray", "colour", "channels first", "one channel"])
def test_arrays_are_packed(shape: str, tmp_path: Path):
    colour = np.stack([pixels(8, 12, seed=n) for n in range(6)])
    gray = colour[..., 0]
    images = {
        "gray": gray,
        "colour": colour,
        "channels first": colour.transpose(0, 3, 1, 2),
        "one channel": gray[..., None],
    }[shape]
    labels = np.array([2, 0, 1, 2, 0, 1])

    pack((images, labels), tmp_path / "out")

    found = held(tmp_path / "out")
    assert [int(target) for _, target in found] == labels.tolist()
    wanted = colour if "colour" in shape or "first" in shape else np.repeat(gray[..., None], 3, axis=3)
    assert all(np.array_equal(image, each) for (image, _), each in zip(found, wanted, strict=True))


def test_torchvision_s_image_folder_gives_the_bytes_of_its_folder(tmp_path: Path):
    class_folders(tmp_path / "imgs")

    pack(tmp_path / "imgs", tmp_path / "from-folder")
    pack(datasets.ImageFolder(str(tmp_path / "imgs")), tmp_path / "from-data-set")

    tars = [
        {name: content for name, content in contents(tmp_path / out).items() if name.endswith((".tar", ".npy"))}
        for out in ("from-folder", "from-data-set")
    ]
    assert tars[0] == tars[1]


def test_a_transformed_image_folder_is_packed_as_it_is_transformed(tmp_path: Path):
    class_folders(tmp_path / "imgs")
    data = datasets.ImageFolder(str(tmp_path / "imgs"), transform=lambda image: image.resize((5, 4)))

    pack(data, tmp_path / "out")

    assert {image.shape for image, _ in held(tmp_path / "out")} == {(4, 5, 3)}


def test_a_torchvision_data_set_is_packed_with_its_classes(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = datasets.FakeData(size=6, image_size=(3, 8, 12), num_classes=3)

        pack(data, tmp_path / "out", workers=3)

        assert [int(target) for _, target in held(tmp_path / "out")] == [int(data[n][1]) for n in range(6)]
        for n, (image, _) in enumerate(held(tmp_path / "out")):
            assert np.array_equal(image, np.asarray(data[n][0]))


class Digits:
    """A data set like torchvision's MNIST, with labels in an attribute, so that listing need not make the images."""

    classes = ("zero", "one", "two")

    def __init__(self, count: int = 9):
        self.targets = torch.arange(count) % 3
        self.taken: list[int] = []

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.taken.append(index)
        return Image.fromarray(pixels(8, 12, seed=index)), int(self.targets[index])


def test_labels_in_an_attribute_avoid_a_pass_over_the_images(tmp_path: Path):
    data = Digits(200)

    report = pack(data, tmp_path / "out")

    assert report.classes == ("zero", "one", "two")
    assert_pictures(tmp_path / "out", 200)
    assert len(data.taken) < 300  # each image once, and some more to estimate the size and to understand the source


def test_a_subset_keeps_the_classes_of_its_data_set(tmp_path: Path):
    report = pack(torch.utils.data.Subset(Digits(), [4, 2]), tmp_path / "out")

    assert report.classes == ("zero", "one", "two")
    assert [int(target) for _, target in held(tmp_path / "out")] == [1, 2]


def test_a_dict_of_splits_becomes_one_set_for_each_split(tmp_path: Path):
    report = pack({"train": pictures(6), "val": pictures(3)}, tmp_path / "out")

    assert {each.split: each.samples for each in report.sets} == {"train": 6, "val": 3}
    assert_pictures(tmp_path / "out/val", 3)


def test_an_interrupted_pack_of_a_sequence_is_continued(tmp_path: Path):
    def fail(samples: int, size: int) -> None:
        if (tmp_path / "out/shard-000001.tar").exists():
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pack(pictures(), tmp_path / "out", shard_samples=3, workers=1, on_progress=fail)
    report = pack(pictures(), tmp_path / "out", shard_samples=3)

    assert report.kept == 2
    assert_pictures(tmp_path / "out")


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path):
    for workers in (1, 3):
        pack(pictures(20), tmp_path / str(workers), shard_samples=6, workers=workers)

    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_a_generator_is_packed_and_says_that_it_cannot_be_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def samples() -> Iterator[tuple[Image.Image, int]]:
        yield from pictures()

    with caplog.at_level(logging.WARNING, "mps_shards"):
        pack(samples(), tmp_path / "out", workers=3)

    assert_pictures(tmp_path / "out")
    assert "cannot be resumed" in caplog.text


def test_a_generator_that_fails_leaves_no_files(tmp_path: Path):
    def samples() -> Iterator[tuple[Image.Image, int]]:
        yield pictures()[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        pack(samples(), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_an_interrupted_pack_of_a_generator_starts_from_the_beginning(tmp_path: Path):
    def fail(samples: int, size: int) -> None:
        if (tmp_path / "out/shard-000001.tar").exists():
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped") as stopped:
        pack(iter(pictures()), tmp_path / "out", shard_samples=3, workers=1, on_progress=fail)
    assert "an iterator cannot be resumed: call pack with a new one" in stopped.value.__notes__
    assert not (tmp_path / "out").exists()

    assert pack(iter(pictures()), tmp_path / "out", shard_samples=3).kept == 0
    assert_pictures(tmp_path / "out")


def test_an_iterator_needs_this_process(tmp_path: Path):
    with pytest.raises(ConfigError, match="executor must not be 'array'"):
        pack(iter(pictures()), tmp_path / "out", executor="array", task_index=0, num_tasks=1)


@pytest.mark.parametrize("as_image", [True, False])
def test_label_maps_make_segmentation(as_image: bool, tmp_path: Path):
    ids = [np.arange(96).reshape(8, 12).astype(np.int64) % (n + 2) for n in range(3)]
    masks = [Image.fromarray(each.astype(np.uint8)) if as_image else each for each in ids]

    pack([(pixels(8, 12, seed=n), mask) for n, mask in enumerate(masks)], tmp_path / "out")

    assert manifest_of(tmp_path / "out").task == "segmentation"
    assert all(np.array_equal(mask, each) for (_, mask), each in zip(held(tmp_path / "out"), ids, strict=True))


def test_several_labels_captions_and_other_keys_are_packed(tmp_path: Path):
    image = tiny_jpeg()
    pack([(image, [2, 0]), (image, [])], tmp_path / "several", shuffle=False)
    pack([{"image": image, "caption": "a cat", "id": 7, "raw": object()}], tmp_path / "captions")

    several = [fields["json"] for _, fields in by_webdataset_s_reader([tmp_path / "several/shard-000000.tar"])]
    [(_, caption)] = by_webdataset_s_reader([tmp_path / "captions/shard-000000.tar"])
    assert several == [b'{"labels":[0,2]}', b'{"labels":[]}']
    assert manifest_of(tmp_path / "several").task == "multilabel"
    assert (caption["txt"], caption["json"]) == (b"a cat", b'{"id":7}')
    assert manifest_of(tmp_path / "captions").task == "captions"


def test_images_without_targets_are_unlabeled(tmp_path: Path):
    pack([image for image, _ in pictures()], tmp_path / "out")

    assert manifest_of(tmp_path / "out").task == "unlabeled"


def test_photographs_can_be_packed_as_jpeg(tmp_path: Path):
    pack(pictures(), tmp_path / "out", format="jpeg", quality=95)

    samples = by_webdataset_s_reader([tmp_path / "out/shard-000000.tar"])
    assert all(fields["jpg"].startswith(b"\xff\xd8\xff") for _, fields in samples)


@pytest.mark.parametrize(
    ("samples", "complaint"),
    [
        ([], "no samples to pack"),
        ([(np.zeros((8, 8, 3), np.float32), 0)], r"image of sample 0 is an array of float32 \(8, 8, 3\); give uint8"),
        ([(np.zeros((8, 8, 7), np.uint8), 0)], r"array of uint8 \(8, 8, 7\)"),
        ([(tiny_jpeg(), {"boxes": []})], "target of sample 0 is of type dict"),
        ([(tiny_jpeg(), 0, 1)], "sample 0 has 3 parts"),
        ([{"picture": tiny_jpeg()}], "sample 0 has no image: its keys are picture"),
        (
            [(tiny_jpeg(), 0), (tiny_jpeg(), [1])],
            "target for multilabel, but the samples before it have targets for classification",
        ),
        ([(tiny_jpeg(), 0), (tiny_jpeg(), "cat")], "some labels are names and some are numbers"),
        ([(tiny_jpeg(), -1)], "label -1"),
        ([(b"not an image at all", 0)], "is not an image"),
        ([(b"<html>", 0)], "is an HTML page"),
        ({"image": [1], "label": [2]}, "a dict of columns .* is not packed"),
        (object(), "cannot pack an object of type 'object'"),
    ],
)
def test_samples_that_cannot_be_packed_are_refused_with_the_reason(samples: Any, complaint: str, tmp_path: Path):
    with pytest.raises((ConfigError, DataError), match=complaint):
        pack(samples, tmp_path / "out")


def test_python_objects_need_a_destination():
    with pytest.raises(ConfigError, match="name a destination"):
        pack(pictures())


def test_a_sequence_that_changes_is_noticed(tmp_path: Path):
    class Changing(Digits):
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            image, label = super().__getitem__(index)
            return image, label if len(self.taken) <= 10 else 0

    with pytest.raises(DataError, match=r"sample \d+ has the label 0 now, but had another"):
        pack(Changing(), tmp_path / "out")


def test_a_hugging_face_data_set_is_packed_without_decoding(tmp_path: Path):
    hub = pytest.importorskip("datasets")
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog", "fox"])})
    rows = {"image": [{"bytes": tiny_jpeg(n), "path": None} for n in range(9)], "label": [n % 3 for n in range(9)]}
    data = hub.Dataset.from_dict(rows, features=features)

    report = pack(data, tmp_path / "out", workers=3)
    splits = pack(hub.DatasetDict({"train": data, "test": data}), tmp_path / "splits")

    assert report.classes == ("cat", "dog", "fox")
    samples = sorted(by_webdataset_s_reader([tmp_path / "out/shard-000000.tar"]))
    assert [fields for _, fields in samples] == [{"cls": b"%d" % (n % 3), "jpg": tiny_jpeg(n)} for n in range(9)]
    assert {each.split: each.samples for each in splits.sets} == {"train": 9, "test": 9}


def test_the_pixels_that_pillow_shows_are_stored(tmp_path: Path):
    modes = ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"]
    images = [picture(mode) for mode in modes]

    pack(images, tmp_path / "out")

    for image, (stored, _) in zip(images, held(tmp_path / "out"), strict=True):
        assert np.array_equal(stored, np.asarray(image.convert("RGB")))


def test_metadata_of_an_image_is_not_stored(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(picture("RGB"), "PNG", exif=exif)))

    report = pack([image], tmp_path / "out")

    assert report.sets[0].rotated == 0
    [(stored, _)] = ShardDataset(tmp_path / "out", batch_size=None)
    assert stored.equal(expected(encoded(picture("RGB"), "PNG")))
