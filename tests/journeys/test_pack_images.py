"""Image options, splits and masks of pack, checked in the batches that the loader delivers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import ShardDataset, pack
from mps_shards.errors import ConfigError, DataError
from tests.support.files import contents
from tests.support.images import (
    EXAMPLES,
    PACKED_AS_IT_IS,
    class_folders,
    encoded,
    expected,
    picture,
    pixels,
    tiny_jpeg,
    write,
)

COLOURS = np.array([(0, 0, 0), (128, 0, 0), (224, 224, 192)], np.uint8)  # of Pascal VOC: 0, 1 and 255


def pairs(folder: Path) -> Path:
    """Write two images with RGB masks; the first image has an EXIF orientation, and its mask is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "images/a.png": encoded(picture("RGB", 20, 30), "PNG", exif=exif),
        "images/b.png": encoded(picture("RGB", 40, 24, seed=1), "PNG"),
        "masks/a.png": encoded(Image.fromarray(COLOURS[pixels(30, 20, 1)[..., 0] % 3]), "PNG"),
        "masks/b.png": encoded(Image.fromarray(COLOURS[pixels(40, 24, 1)[..., 0] % 3]), "PNG"),
    }
    return write(folder, files)


def test_colour_masks_come_out_as_label_ids_on_upright_images(tmp_path: Path):
    source = pairs(tmp_path / "imgs")

    report = pack(source, palette="voc", upright=True, shuffle=False)

    assert report.classes[:2] == ("background", "aeroplane") and len(report.classes) == 21
    first, second = ShardDataset(report.out, batch_size=None)
    assert np.array_equal(first[0], expected(encoded(picture("RGB", 20, 30).rotate(-90, expand=True), "PNG")))
    assert np.array_equal(second[0], expected(encoded(picture("RGB", 40, 24, seed=1), "PNG")))
    for (_, mask), (height, width) in ((first, (30, 20)), (second, (40, 24))):
        assert np.array_equal(mask, np.array([0, 1, 255])[pixels(height, width, 1)[..., 0] % 3])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, r"masks/[ab]\.png is a mask of colours: .*--palette"),
        (
            {"palette": "voc"},
            r"masks/a\.png: the label map is 20 x 30 pixels, .* is 30 x 20 pixels; .* --upright",
        ),
        (
            {"palette": "voc", "upright": True, "ignore_index": 254},
            r"masks hold the label ids 255, but there are 21 classes",
        ),
    ],
)
def test_invalid_masks_stop_the_pack_and_leave_no_files(options: dict, complaint: str, tmp_path: Path):
    source = pairs(tmp_path / "imgs")

    with pytest.raises((ConfigError, DataError), match=complaint):
        pack(source, shuffle=False, **options)

    assert not (tmp_path / "imgs-shards").exists()


def test_bad_masks_are_skipped_with_on_bad_sample_skip(tmp_path: Path):
    report = pack(pairs(tmp_path / "imgs"), palette="voc", on_bad_sample="skip")

    assert [skip.path for skip in report.skipped] == ["images/a.png"]
    assert report.sets[0].samples == 1


def test_splits_hold_every_image_once_with_equal_shares_of_classes(tmp_path: Path):
    images = class_folders(tmp_path / "imgs", classes=3, each=10)

    report = pack(tmp_path / "imgs", split="train=0.8,val=0.2", seed=5)

    assert {each.split: each.classes for each in report.sets} == {
        "train": {"class-0": 8, "class-1": 8, "class-2": 8},
        "val": {"class-0": 2, "class-1": 2, "class-2": 2},
    }
    keys = {
        each.split: [key for *_, key in ShardDataset(each.folder, batch_size=None, keys=True)] for each in report.sets
    }
    assert sorted(keys["train"] + keys["val"]) == sorted(images)


def test_a_split_of_splits_is_refused(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"{split}/cat/x.jpg": tiny_jpeg() for split in ("train", "val")})

    with pytest.raises(ConfigError, match=r"the source has splits of its own \(train, val\)"):
        pack(source, split="a=0.5,b=0.5")


def test_resized_and_encoded_images_have_the_same_bytes_from_any_number_of_workers(tmp_path: Path):
    files = {
        f"{n % 2}/{n}.{name}": make() for n, (name, make) in enumerate(PACKED_AS_IT_IS.items()) if name != "moving.gif"
    }
    source = write(tmp_path / "imgs", files)

    for workers in (1, 3):
        pack(source, tmp_path / str(workers), workers=workers, resize=32, format="webp", quality=70, drop_alpha=True)

    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    images = [image for image, _ in ShardDataset(tmp_path / "1", batch_size=None)]
    assert len(images) == len(files) and {min(image.shape[1:]) for image in images} == {32}
    assert all(image.dtype == torch.float32 for image in images)


def test_images_with_an_exif_orientation_are_counted(tmp_path: Path):
    source = write(tmp_path / "imgs", {f"cat/{name}": EXAMPLES[name]() for name in ("rotated.jpg", "rgb.png")})

    found = [pack(source, tmp_path / str(upright), upright=upright).sets[0].rotated for upright in (False, True)]

    assert found == [1, 0]
