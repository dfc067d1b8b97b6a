"""Statistics of images are exact and do not depend on the order of the samples."""

import numpy as np
import pytest

from mps_shards.errors import DecodeError
from mps_shards.inspect.image_statistics import Tally, examined
from mps_shards.shards.manifest import Manifest, Packed, Task
from mps_shards.shards.raw_sample import RawSample
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, encoded, expected, picture


def raw(name: str, **fields: bytes) -> RawSample:
    kind = name.rpartition(".")[2].lower()
    named = {field.replace("_", "."): content for field, content in fields.items()}
    return RawSample(key=name, shard="s.tar", fields={kind: EXAMPLES[name](), **named})


def described(task: Task) -> Manifest:
    packed = Packed(version="0", layout="test", seed=None)
    return Manifest(task=task, samples=0, bytes=0, shards=(), index_sha256="0" * 64, packed=packed)


def test_mean_and_std_are_those_of_all_pixels_that_training_sees():
    tally = Tally()
    for name in PACKED_AS_IT_IS:
        tally.add(examined(raw(name, cls=b"1"), described("classification")))

    pixels = np.concatenate([expected(make()).numpy().reshape(3, -1) for make in PACKED_AS_IT_IS.values()], axis=1)
    exact = np.rint(pixels * 255).astype(np.float64) / 255  # without the rounding of float32
    assert tally.mean() == pytest.approx(exact.mean(axis=1), abs=1e-12)
    assert tally.std() == pytest.approx(exact.std(axis=1), abs=1e-12)
    assert tally.pixels == pixels.shape[1]


def test_the_order_of_adding_changes_no_bit():
    facts = [examined(raw(name), described("unlabeled")) for name in PACKED_AS_IT_IS]
    there, back = Tally(), Tally()
    for one, other in zip(facts, reversed(facts), strict=True):
        there.add(one)
        back.add(other)

    assert (there.mean(), there.std()) == (back.mean(), back.std())


@pytest.mark.parametrize(
    ("name", "format", "mode", "orientation"),
    [
        ("rgb.jpg", "JPEG", "RGB", 1),
        ("rotated.jpg", "JPEG", "RGB", 6),
        ("rotated.png", "PNG", "RGB", 6),
        ("gray.png", "PNG", "L", 1),
        ("a-webp-named.jpeg", "WEBP", "RGB", 1),
        ("cmyk.jpg", "JPEG", "CMYK", 1),
    ],
)
def test_format_mode_orientation_and_size_of_a_file_are_recorded(name, format, mode, orientation):
    facts = examined(raw(name), described("unlabeled"))

    assert (facts.format, facts.mode, facts.orientation) == (format, mode, orientation)
    assert (facts.width, facts.height) == (53, 37)
    assert facts.bytes == len(EXAMPLES[name]())
    assert facts.labels == (-1,)


def test_mask_pixels_are_counted_by_value():
    mask = np.zeros((37, 53), dtype=np.uint8)
    mask[:10], mask[10:20, :5] = 3, 255
    from PIL import Image

    facts = examined(raw("rgb.jpg", mask_png=encoded(Image.fromarray(mask), "PNG")), described("segmentation"))

    assert facts.mask == {0: 37 * 53 - 530 - 50, 3: 530, 255: 50}


def test_a_mask_that_is_missing_or_of_another_size_is_an_error():
    with pytest.raises(DecodeError, match=r"sample 'rgb.jpg' of shard s.tar has no mask.png"):
        examined(raw("rgb.jpg"), described("segmentation"))
    with pytest.raises(DecodeError, match=r"the label map is 4 x 3 pixels, but its image is 53 x 37 pixels"):
        examined(raw("rgb.jpg", mask_png=encoded(picture("L", 3, 4), "PNG")), described("segmentation"))
