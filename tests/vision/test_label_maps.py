"""Masks of every format become exactly the label ids that they were drawn with."""

import io
import json
import math
import struct
import sys
import warnings
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools import mask as coco

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.vision.decoding import decode_mask
from mps_shards.vision.label_maps import check_ids, drawn_ids, label_ids, label_map_bytes, label_map_size, resized
from tests.support.images import encoded, picture

IDS = (np.arange(12 * 20, dtype=np.uint8).reshape(12, 20) * 7) % 16
COLOURS = [(0, 0, 0, 0), (128, 0, 0, 1), (0, 128, 0, 2), (224, 224, 192, 255)]


def gray_png(ids: np.ndarray, bits: int) -> bytes:
    """Return a gray PNG of this bit depth, whose values are the ids; Pillow cannot write 2 and 4 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    each = 8 // bits
    padded = np.pad(ids, ((0, 0), (0, -ids.shape[1] % each))).reshape(ids.shape[0], -1, each).astype(np.uint8)
    packed = sum(padded[..., n] << bits * (each - 1 - n) for n in range(each)).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def palette_file(ids: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    image = Image.fromarray(ids)
    image.putpalette([value * 37 % 256 for value in range(768)])
    return encoded(image, kind, **options)


KINDS = {
    "gray": encoded(Image.fromarray(IDS), "PNG"),
    "16-bit": encoded(Image.fromarray(IDS.astype(np.uint16) * 3000), "PNG"),
    "palette": palette_file(IDS),
    "palette-4-bit": palette_file(IDS, bits=4),
    "palette-transparent": palette_file(IDS, transparency=0),
    "gray-4-bit": gray_png(IDS, 4),
    "gray-2-bit": gray_png(IDS % 4, 2),
    "one-bit": encoded(Image.fromarray(IDS % 2 == 1), "PNG"),
    "gif": palette_file(IDS, "GIF"),
    "bmp": encoded(Image.fromarray(IDS), "BMP"),
    "tiff": encoded(Image.fromarray(IDS), "TIFF"),
    "tiff-32-bit": encoded(Image.fromarray(IDS.astype(np.int32) * 3000), "TIFF"),
}
MEANT = {"16-bit": IDS.astype(int) * 3000, "tiff-32-bit": IDS.astype(int) * 3000}
MEANT |= {"gray-2-bit": IDS % 4, "one-bit": IDS % 2}


@pytest.mark.parametrize("name", KINDS)
def test_an_image_with_one_channel_gives_its_numbers_as_label_ids(name: str):
    ids = label_ids(KINDS[name], None)

    assert ids.dtype == (np.uint16 if "16" in name or "32" in name else np.uint8)
    assert np.array_equal(ids, MEANT.get(name, IDS))


@pytest.mark.parametrize("name", ["gray", "16-bit", "palette", "palette-4-bit", "palette-transparent"])
def test_a_png_with_one_channel_is_a_label_map(name: str):
    assert label_map_size(KINDS[name]) == IDS.shape


@pytest.mark.parametrize("name", ["gray-4-bit", "gray-2-bit", "one-bit", "gif", "bmp", "tiff", "tiff-32-bit"])
def test_masks_of_other_formats_are_not_label_maps(name: str):
    assert label_map_size(KINDS[name]) is None


@pytest.mark.parametrize(
    "content", [encoded(picture("RGB"), "PNG"), encoded(picture("LA"), "PNG"), b"\x89PNG\r\n", b""]
)
def test_a_png_with_several_channels_or_a_truncated_one_is_not_a_label_map(content: bytes):
    assert label_map_size(content) is None


ANY_IDS = arrays.arrays(
    st.sampled_from([np.uint8, np.uint16]), arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
)


@given(ids=ANY_IDS)
def test_decoding_an_encoded_label_map_gives_the_same_label_ids(ids: np.ndarray):
    content = label_map_bytes(ids)

    assert label_map_size(content) == ids.shape
    assert np.array_equal(decode_mask(content), ids)
    assert label_ids(content, None).dtype == ids.dtype


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_become_the_label_ids_of_the_palette(mode: str, wide: bool):
    colours = [(*colour, number + 300 * wide) for *colour, number in COLOURS]
    table = np.array(colours)
    pick = np.random.default_rng(0).integers(0, 4, (9, 13))
    image = Image.fromarray(table[pick, :3].astype(np.uint8)).convert(mode)

    ids = label_ids(encoded(image, "PNG"), colours)

    assert ids.dtype == (np.uint16 if wide else np.uint8)
    assert np.array_equal(ids, table[pick, 3])


def test_the_error_about_an_unknown_colour_names_its_first_pixel():
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[2, 3] = pixels[3, 0] = (128, 0, 1)

    with pytest.raises(DecodeError, match=r"the colour \(128, 0, 1\) at column 3, row 2 is not in the palette"):
        label_ids(encoded(Image.fromarray(pixels), "PNG"), COLOURS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (encoded(picture("RGB"), "PNG"), r"the mask holds colours \(mode RGB\); state the label id"),
        (encoded(picture("L"), "JPEG"), "the mask is a JPEG, which is lossy and changes label ids"),
        (encoded(picture("LA"), "PNG"), "the mask has mode LA"),
        (encoded(Image.fromarray(np.array([[0, 70_000]], np.int32)), "TIFF"), "label ids from 0 to 70000"),
        (encoded(Image.fromarray(np.array([[-1, 2]], np.int32)), "TIFF"), "label ids from -1 to 2"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "the mask has mode F"),
        (KINDS["gray"][:60], "the PNG is damaged or cut off: its 60 bytes contain no end chunk"),
    ],
    ids=["rgb", "jpeg", "gray-alpha", "too-high", "negative", "floats", "cut-off"],
)
def test_the_error_about_an_unusable_mask_gives_the_reason(content: bytes, complaint: str):
    with pytest.raises(DecodeError, match=complaint):
        label_ids(content, None)


def test_the_error_about_an_id_without_a_class_names_its_pixel():
    ids = np.array([[0, 1, 255], [2, 4, 3]], np.uint8)

    check_ids(ids, classes=5, ignore_index=255)
    check_ids(ids, classes=256, ignore_index=None)
    with pytest.raises(
        DecodeError, match="label id 4 at column 1, row 1 is not a class: the set has 4 classes, 0 to 3, and 255 is"
    ):
        check_ids(ids, classes=4, ignore_index=255)
    with pytest.raises(
        DecodeError, match="label id 255 at column 2, row 0 is not a class: the set has 5 classes, 0 to 4; declare"
    ):
        check_ids(ids, classes=5, ignore_index=None)


@given(old=st.integers(1, 60), new=st.integers(1, 90))
def test_resizing_a_label_map_takes_the_pixel_below_each_centre(old: int, new: int):
    ids = np.arange(old, dtype=np.uint8)[:, None]
    centres = [(Fraction(2 * place + 1, 2) * old / new) for place in range(new)]

    assert resized(ids, (new, 1))[:, 0].tolist() == [math.floor(centre) for centre in centres]
    assert resized(ids.T, (1, new))[0].tolist() == [math.floor(centre) for centre in centres]


@pytest.mark.parametrize("size", [(5, 7), (37, 53), (12, 9), (1, 1)])
def test_resizing_equals_pillow_s_where_no_centre_lies_between_two_pixels(size: tuple[int, int]):
    ids = np.arange(11 * 17, dtype=np.uint16).reshape(11, 17)

    reference = Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST)

    assert np.array_equal(resized(ids, size), np.asarray(reference))


SQUARE = [[2.0, 1.0, 7.0, 1.0, 7.0, 6.0, 2.0, 6.0]]
HEIGHT, WIDTH = 8, 11


def shape(label: int, segmentation: object, **rest: object) -> dict[str, object]:
    return {"label": label, "segmentation": segmentation, **rest}


def drawn(*shapes: dict[str, object], classes: int = 0, ignore_index: int = 255) -> np.ndarray:
    drawing = {"height": HEIGHT, "width": WIDTH, "shapes": shapes}
    return drawn_ids(json.dumps(drawing), classes=classes, ignore_index=ignore_index)


def test_polygons_are_drawn_as_coco_draws_them():
    triangle = [[0.5, 0.2, 9.7, 3.3, 4.1, 7.9]]
    two_parts = [[0, 0, 3, 0, 3, 3, 0, 3], [6, 4, 10, 4, 10, 8, 6, 8]]

    for polygons in (SQUARE, triangle, two_parts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0.11 warns under NumPy 2.4
            reference = coco.decode(coco.merge(coco.frPyObjects(polygons, HEIGHT, WIDTH)))
        assert reference.any()
        assert np.array_equal(drawn(shape(3, polygons)), reference * 3)


def test_a_drawn_square_covers_the_pixels_between_its_corners():
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[1:6, 2:7] = 4

    assert np.array_equal(drawn(shape(4, SQUARE)), expected)


@given(inside=arrays.arrays(bool, (HEIGHT, WIDTH)))
def test_run_length_encoding_gives_exact_pixels_compressed_or_not(inside: np.ndarray):
    packed = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
    turns = np.flatnonzero(np.diff(inside.T.ravel(), prepend=False)).tolist()
    counts = np.diff([0, *turns, inside.size]).tolist()

    by_text = drawn(shape(1, {"size": packed["size"], "counts": packed["counts"].decode()}))
    by_numbers = drawn(shape(1, {"size": [HEIGHT, WIDTH], "counts": counts}))

    assert np.array_equal(by_text, inside)
    assert np.array_equal(by_numbers, inside)


def test_compressed_runs_are_read_as_coco_writes_them():
    inside = np.zeros((700, 900), np.uint8, order="F")
    inside[100:650, 30:800] = 1
    inside[200, 400:] = 0
    packed = coco.encode(inside)
    drawing = {"height": 700, "width": 900, "shapes": [shape(1, {**packed, "counts": packed["counts"].decode()})]}

    assert np.array_equal(drawn_ids(json.dumps(drawing), classes=2, ignore_index=255), inside)


def runs(columns: slice) -> dict[str, object]:
    inside = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    inside[:, columns] = 1
    packed = coco.encode(inside)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def test_smaller_shapes_are_drawn_over_larger_ones_and_equal_ones_in_order():
    left, right, all_over = runs(slice(0, 6)), runs(slice(4, 10)), runs(slice(0, 11))

    for ids in (
        drawn(shape(1, left, area=48), shape(2, right, area=48), shape(3, all_over, area=88)),
        drawn(shape(1, left), shape(3, all_over), shape(2, right)),
    ):
        assert ids[0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3]


def test_crowds_are_drawn_below_other_shapes_as_ignore_index():
    ids = drawn(shape(1, runs(slice(0, 6)), area=48), shape(2, runs(slice(3, 8)), area=1, iscrowd=1))

    assert ids[0].tolist() == [1, 1, 1, 1, 1, 1, 255, 255, 0, 0, 0]


def test_pixels_outside_of_all_shapes_are_background():
    ids = drawn(shape(1, []), shape(2, [[1, 1, 5, 5]]), shape(3, [[]]))

    assert ids.shape == (HEIGHT, WIDTH) and not ids.any()


@pytest.mark.parametrize(("classes", "label", "kind"), [(256, 1, np.uint8), (257, 1, np.uint16), (0, 256, np.uint16)])
def test_label_maps_of_more_than_256_ids_have_16_bits(classes: int, label: int, kind: type):
    ids = drawn(shape(label, SQUARE), classes=classes)

    assert ids.dtype == kind and ids.max() == label


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (shape(1, {"size": [8, 11], "counts": [10, 10]}), "a mask of 11 x 8 pixels do not fill the image of 11 x 8"),
        (shape(1, {"size": [11, 8], "counts": [88]}), "a mask of 8 x 11 pixels do not fill the image of 11 x 8"),
        (shape(1, {"size": [8, 11], "counts": [-2, 90]}), "malformed: "),
        (shape(1, {"size": [8, 11], "counts": ""}), "do not fill"),
        (shape(1, {"size": [8, 11], "counts": "é~!"}), "do not fill"),
        (shape(1, {"size": [8, 11], "counts": [10**30]}), "malformed: "),
        (shape(1, [[1, 1, 5, 5, 6, 6, 7]]), "a polygon has 7 numbers"),
        (shape(1, [[1, 1, 5, 5e9, 6, 6]]), r"a polygon has 6 numbers from 1 to 5e\+09"),
        (shape(-1, SQUARE), "label ids from -1 to 255"),
        (shape(70_000, SQUARE), "label ids from 0 to 70000"),
        (shape("cat", SQUARE), r"malformed: .* `\$\.shapes\[0\]\.label`"),
        ({"label": 1}, "malformed: .*segmentation"),
    ],
)
def test_the_error_about_a_malformed_shape_gives_the_reason(bad: dict[str, object], complaint: str):
    with pytest.raises(DecodeError, match=complaint):
        drawn(bad)


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=130), max_size=40))
def test_any_text_as_compressed_runs_gives_a_mask_or_an_error(text: str):
    try:
        ids = drawn(shape(1, {"size": [HEIGHT, WIDTH], "counts": text}))
    except DecodeError:
        return
    assert ids.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [(0, 5), (-1, -5), (100_000, 100_000)])
def test_a_drawing_without_pixels_or_with_billions_is_refused(size: tuple[int, int]):
    with pytest.raises(DecodeError, match="the COCO shapes are for an image of"):
        drawn_ids(json.dumps({"height": size[0], "width": size[1], "shapes": []}), classes=0, ignore_index=255)


def test_the_error_about_missing_pycocotools_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)

    with pytest.raises(ConfigError, match=r"pip install 'mps-shards\[coco\]'"):
        drawn(shape(1, SQUARE))
    assert drawn(shape(1, runs(slice(0, 2)))).any()


def test_pillow_opens_an_encoded_label_map_with_the_same_ids():
    for kind, mode in ((np.uint8, "L"), (np.uint16, "I;16")):
        with Image.open(io.BytesIO(label_map_bytes(IDS.astype(kind)))) as image:
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), IDS)
