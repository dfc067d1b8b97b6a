"""A listed file becomes the fields of its sample: checked, and encoded again only if an option requires it."""

import io
import json
import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from mps_shards.errors import ConfigError, DataError, DecodeError, StorageError
from mps_shards.packing.pack_options import PackOptions
from mps_shards.packing.palette import find_palette
from mps_shards.packing.sample_fields import FieldRules, fields_of, rules_of
from mps_shards.packing.sources.files import FolderFiles
from mps_shards.packing.sources.listing import Entry
from mps_shards.packing.sources.tree_source import TreeSource
from mps_shards.vision.decoding import decode_image, decode_mask
from mps_shards.vision.encoding import read_header
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, encoded, picture, pixels, turbo, write

JPEG = EXAMPLES["rgb.jpg"]()  # 53 x 37
HEIGHT, WIDTH = 37, 53
IDS = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) // 90 % 9).astype(np.uint8)


def png(ids: np.ndarray) -> bytes:
    return encoded(Image.fromarray(ids), "PNG")


def rotated(orientation: int, size: tuple[int, int] = (HEIGHT, WIDTH), kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture("RGB", *size), kind, exif=exif)


def made(folder: Path, image: bytes, mask: bytes = b"", *, name: str = "x.jpg", rest: dict | None = None, **options):
    """Return the fields of one sample that is made from these files."""
    write(folder, {name: image, **({"masks/x.png": mask} if mask else {})})
    entry = Entry(name, len(image), mask="masks/x.png" if mask else "", **(rest or {}))
    settled = {name: options.pop(name) for name in ("palette", "classes", "ignore_index") if name in options}
    rules = replace(rules_of(PackOptions.of(**options)), **settled)
    return fields_of(TreeSource(FolderFiles(folder)), entry, rules)


def refused(complaint: str, folder: Path, image: bytes, mask: bytes = b"", **options) -> None:
    with pytest.raises(DataError, match=complaint):
        made(folder, image, mask, **options)


@pytest.mark.parametrize("name", PACKED_AS_IT_IS)
@pytest.mark.parametrize("check", [True, False])
def test_the_bytes_of_files_do_not_change(name: str, check: bool, tmp_path: Path):
    content = EXAMPLES[name]()

    contents = made(tmp_path, content, name=name, check=check, drop_alpha=True).contents

    assert contents == {name.rpartition(".")[2].replace("jfif", "jpg"): content}


def test_label_and_note_become_fields(tmp_path: Path):
    note = '{ "b": 1.50, "a": [1, {"x": null}], "é": "\\u00e9", "big": 123456789012345678901234567890 }'

    contents = made(tmp_path, JPEG, rest={"label": 12, "note": note}).contents

    assert contents["cls"] == b"12"
    assert (
        contents["json"].decode() == '{"b":1.50,"a":[1,{"x":null}],"é":"\\u00e9","big":123456789012345678901234567890}'
    )


@pytest.mark.parametrize("note", ["[1]", "{", '{"a": \udcff}', '{"a": "\udcff"}', '{"a": 1} 2'])
def test_metadata_that_is_not_a_json_object_is_refused(note: str, tmp_path: Path):
    refused(r"x\.jpg: the metadata is not a JSON object", tmp_path, JPEG, rest={"note": note})


def test_an_image_that_cannot_be_decoded_is_found_unless_the_check_is_off(tmp_path: Path):
    refused(r"x\.jpg: cannot decode the image: ", tmp_path, JPEG[:-200])

    assert made(tmp_path, JPEG[:-200], check=False).contents["jpg"] == JPEG[:-200]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Damage content: cut it off, flip bits, change bytes of the header, or remove bytes."""
    damage = bytearray(content)
    match rng.randrange(4):
        case 0:
            del damage[rng.randrange(len(damage)) :]
        case 1:
            for _ in range(rng.randint(1, 4)):
                damage[rng.randrange(len(damage))] ^= 1 << rng.randrange(8)
        case 2:
            for _ in range(rng.randint(1, 4)):
                damage[rng.randrange(min(len(damage), 700))] = rng.randrange(256)
        case _:
            start = rng.randrange(len(damage))
            del damage[start : start + rng.randint(1, 50)]
    return bytes(damage)


def test_the_check_refuses_exactly_what_decoding_refuses():
    rng = random.Random(0)
    jpegs = [content for content in (make() for make in EXAMPLES.values()) if content[:3] == b"\xff\xd8\xff"]
    jpegs += [turbo("RGB", "420", height=200, width=300), encoded(picture("RGB", 200, 300), "JPEG", progressive=True)]
    verdicts = []

    def decodes(content: bytes, factor: int) -> bool:
        try:
            decode_image(content, factor=factor)
            return True
        except DecodeError:
            return False

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        for _ in range(4000):
            content = damaged(rng.choice(jpegs), rng)
            verdicts.append((decodes(content, 8), decodes(content, 1)))

    assert all(fast == full for fast, full in verdicts)
    assert 500 < sum(full for _, full in verdicts) < 3500


def test_the_check_accepts_damaged_metadata(tmp_path: Path):
    content = rotated(6)
    damage = content.replace(b"MM\0*", b"MM\xff*")
    assert damage != content

    fields = made(tmp_path, damage)

    assert fields.contents == {"jpg": damage} and not fields.rotated


@pytest.mark.parametrize(
    ("orientation", "upright", "expected"), [(1, False, False), (3, False, True), (6, False, True), (6, True, False)]
)
def test_images_with_an_exif_orientation_are_counted(orientation: int, upright: bool, expected: bool, tmp_path: Path):
    assert made(tmp_path, rotated(orientation), upright=upright).rotated is expected


def size(contents: dict[str, bytes]) -> tuple[int, int]:
    [image] = (content for name, content in contents.items() if name not in ("cls", "mask.png", "json"))
    return read_header(image).size


@pytest.mark.parametrize("side", [1, 10, 36, 37, 53, 100])
def test_resize_sets_the_shorter_side_exactly(side: int, tmp_path: Path):
    wide, tall = made(tmp_path, JPEG, resize=side), made(tmp_path, encoded(picture("RGB", 53, 37), "JPEG"), resize=side)

    assert size(wide.contents) == (side, round(side * 53 / 37))
    assert size(tall.contents) == (round(side * 53 / 37), side)


@pytest.mark.parametrize("side", [1, 10, 52])
def test_max_size_bounds_the_longer_side(side: int, tmp_path: Path):
    assert size(made(tmp_path, JPEG, max_size=side).contents) == (max(1, round(side * 37 / 53)), side)


@pytest.mark.parametrize("options", [{"max_size": 53}, {"max_size": 4000}, {"resize": 37}, {"format": "jpeg"}])
def test_an_image_that_fits_is_not_encoded_again(options: dict, tmp_path: Path):
    assert made(tmp_path, JPEG, **options).contents == {"jpg": JPEG}


@pytest.mark.parametrize("options", [{"max_size": 400}, {"format": "jpeg"}, {"upright": True}])
def test_an_image_that_is_not_resized_is_still_checked(options: dict, tmp_path: Path):
    refused("cannot decode", tmp_path, JPEG[:-200], **options)


def test_an_image_is_resized_from_its_full_size(tmp_path: Path):
    content = made(tmp_path, EXAMPLES["rgb.png"](), name="x.png", resize=20).contents["png"]

    reference = picture("RGB").resize((29, 20), Image.Resampling.LANCZOS)
    assert np.array_equal(decode_image(content), np.asarray(reference))


@pytest.mark.parametrize(
    ("name", "options", "field", "kind"),
    [
        ("Shouted.JPG", {"resize": 20}, "JPG", "jpeg"),
        ("progressive-gray.jpeg", {"resize": 20}, "jpeg", "jpeg"),
        ("lossy.webp", {"resize": 20}, "webp", "webp"),
        ("rgb.png", {"resize": 20}, "png", "png"),
        ("a-png-named.jpg", {"resize": 20}, "png", "png"),
        ("moving.gif", {"resize": 20}, "png", "png"),
        ("cmyk.tif", {"resize": 20}, "png", "png"),
        ("rgb.ppm", {"format": "jpeg"}, "jpg", "jpeg"),
        ("rgba.png", {"format": "webp", "drop_alpha": True}, "webp", "webp"),
        ("from-a-browser.jfif", {"resize": 20}, "jpg", "jpeg"),
        ("rgb.jpg", {"format": "png"}, "png", "png"),
        ("Shouted.JPG", {"format": "jpeg", "quality": 50}, "JPG", "jpeg"),
    ],
)
def test_the_field_is_named_for_the_format(name: str, options: dict, field: str, kind: str, tmp_path: Path):
    content = EXAMPLES[name]()

    [(named, anew)] = made(tmp_path, content, name=name, **options).contents.items()

    assert (named, read_header(anew).format) == (field, kind)
    assert anew != content


def test_quality_is_90_by_default(tmp_path: Path):
    default, same, less = (made(tmp_path, JPEG, resize=30, quality=q).contents["jpg"] for q in (None, 90, 40))

    assert default == same
    assert len(less) < len(default)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_images_look_as_viewers_show_them(orientation: int, tmp_path: Path):
    content = rotated(orientation, kind="PNG")

    upright = made(tmp_path, content, name="x.png", upright=True).contents["png"]

    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(decode_image(upright), np.asarray(ImageOps.exif_transpose(image)))
    assert read_header(upright).orientation == 1
    assert (upright == content) == (orientation == 1)


def marked(orientation: int, *, shown: bool) -> tuple[bytes, bytes]:
    """Return an image that is white in one block in a corner, and a mask that is 1 there.

    Args:
        shown: the mask fits the image as viewers show it, not as it is stored.
    """
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[:9, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = encoded(Image.fromarray(stored), "PNG", exif=exif)
    with Image.open(io.BytesIO(image)) as opened:
        mask = np.asarray(ImageOps.exif_transpose(opened) if shown else opened)[..., 0] // 255
    return image, png(mask)


@pytest.mark.parametrize("resize", [None, 20, 80])
@pytest.mark.parametrize(
    ("orientation", "shown"), [*((n, False) for n in range(1, 9)), *((n, True) for n in (1, 5, 6, 7, 8))]
)
def test_upright_masks_fit_their_images(orientation: int, shown: bool, resize: int | None, tmp_path: Path):
    image, mask = marked(orientation, shown=shown)

    contents = made(tmp_path, image, mask, name="x.png", upright=True, resize=resize).contents

    white, ids = decode_image(contents["png"])[..., 0] > 127, decode_mask(contents["mask.png"])
    assert white.any() and not white.all()
    assert np.count_nonzero(white != ids) <= (0 if resize is None else 2)  # the filter rounds the white block's corner


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_that_fits_only_the_upright_image_is_refused_with_a_hint(orientation: int, tmp_path: Path):
    image, mask = marked(orientation, shown=True)

    refused(
        r"masks/x\.png: the label map is 37 x 53 pixels, .* is 53 x 37 pixels; .* pack with --upright",
        tmp_path,
        image,
        mask,
    )


@pytest.mark.parametrize("check", [True, False])
def test_the_bytes_of_a_label_map_do_not_change(check: bool, tmp_path: Path):
    palette = Image.fromarray(IDS)
    palette.putpalette(list(range(30)))

    for mask in (png(IDS), png(IDS.astype(np.uint16) * 999), encoded(palette, "PNG", compress_level=1)):
        assert made(tmp_path, JPEG, mask, check=check).contents == {"jpg": JPEG, "mask.png": mask}


@pytest.mark.parametrize("check", [True, False])
def test_other_masks_become_label_maps_with_the_same_ids(check: bool, tmp_path: Path):
    for mask in (encoded(Image.fromarray(IDS), "TIFF"), encoded(Image.fromarray(IDS), "BMP")):
        assert made(tmp_path, JPEG, mask, check=check).contents["mask.png"] == png(IDS)


def test_colours_need_a_palette(tmp_path: Path):
    colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), (224, 224, 192)], np.uint8)
    mask = encoded(Image.fromarray(colours[IDS % 4]), "PNG")
    voc = find_palette("voc")

    contents = made(tmp_path, JPEG, mask, palette=voc, classes=21, ignore_index=255).contents

    assert np.array_equal(decode_mask(contents["mask.png"]), np.array([0, 1, 2, 255])[IDS % 4])
    refused(
        r"masks/x\.png: the mask holds colours \(mode RGB\); state the label id of each colour with --palette",
        tmp_path,
        JPEG,
        mask,
    )
    refused(r"masks/x\.png: the colour \(\d+, .* is not in the palette", tmp_path, JPEG, JPEG_AS_PNG, palette=voc)


JPEG_AS_PNG = encoded(picture("RGB"), "PNG")


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_mask_of_another_size_is_refused_with_both_sizes(check: bool, kind: str, tmp_path: Path):
    mask = encoded(Image.fromarray(IDS[:-1]), kind)

    refused(
        r"masks/x\.png: the label map is 53 x 36 pixels, .* is 53 x 37 pixels$",
        tmp_path,
        JPEG,
        mask,
        check=check,
    )


def test_a_label_id_out_of_range_names_the_file_and_both_numbers(tmp_path: Path):
    mask = png(np.where(IDS == 8, 255, IDS).astype(np.uint8))

    assert made(tmp_path, JPEG, mask, classes=8, ignore_index=255).contents["mask.png"] == mask
    assert made(tmp_path, JPEG, mask, classes=0).contents["mask.png"] == mask
    refused(r"masks/x\.png: label id 7 .*: the set has 7", tmp_path, JPEG, mask, classes=7, ignore_index=255)
    refused(r"masks/x\.png: label id 255 .*: the set has 8", tmp_path, JPEG, mask, classes=8)


def test_a_damaged_or_missing_mask_is_named(tmp_path: Path):
    refused(r"masks/x\.png: the PNG is damaged or cut off", tmp_path, JPEG, png(IDS)[:80])

    write(tmp_path, {"x.jpg": JPEG})
    with pytest.raises(StorageError, match=r"cannot read .*gone\.png: No such file"):
        fields_of(TreeSource(FolderFiles(tmp_path)), Entry("x.jpg", len(JPEG), mask="gone.png"), FieldRules())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{"resize": 12}, {"resize": 90}, {"max_size": 20}])
def test_resized_masks_keep_their_ids_and_fit_their_image(kind: type, options: dict, tmp_path: Path):
    ids = IDS.astype(kind) * (7000 if kind is np.uint16 else 20)

    contents = made(tmp_path, JPEG, png(ids), **options).contents

    resized = decode_mask(contents["mask.png"])
    assert resized.shape == size(contents)
    assert set(np.unique(resized)) <= set(np.unique(ids))


def shapes(width: int = WIDTH, height: int = HEIGHT, label: int = 3) -> str:
    square = {"label": label, "segmentation": [[2, 1, 7, 1, 7, 6, 2, 6]], "area": 25, "iscrowd": 0}
    crowd = {"label": 1, "segmentation": [[20, 20, 30, 20, 30, 30, 20, 30]], "area": 100, "iscrowd": 1}
    return json.dumps({"height": height, "width": width, "shapes": [square, crowd]})


def test_shapes_are_drawn_on_their_image(tmp_path: Path):
    contents = made(tmp_path, JPEG, rest={"shapes": shapes()}, classes=5, ignore_index=255).contents

    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[1:6, 2:7], expected[20:30, 20:30] = 3, 255
    assert np.array_equal(decode_mask(contents["mask.png"]), expected)


def test_shapes_are_resized_with_their_image(tmp_path: Path):
    contents = made(tmp_path, JPEG, rest={"shapes": shapes()}, resize=74).contents

    expected = np.zeros((74, 106), np.uint8)
    expected[2:12, 4:14], expected[40:60, 40:60] = 3, 255
    assert np.array_equal(decode_mask(contents["mask.png"]), expected)


def test_shapes_that_do_not_fit_are_refused_with_the_image(tmp_path: Path):
    refused(
        r"x\.jpg: the label map is 50 x 37 pixels, .* is 53 x 37 pixels",
        tmp_path,
        JPEG,
        rest={"shapes": shapes(50)},
    )
    refused(r"x\.jpg: label id 3 .*: the set has 3", tmp_path, JPEG, rest={"shapes": shapes()}, classes=3)
    refused(r"x\.jpg: the COCO shapes are malformed", tmp_path, JPEG, rest={"shapes": "{}"})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"max_size": 9, "resize": 9}, "give one of them"),
        ({"max_size": 0}, "max_size must be at least 1, not 0"),
        ({"resize": -1}, "resize must be at least 1, not -1"),
        ({"quality": 0, "format": "jpeg"}, "quality must be from 1 to 100, not 0"),
        ({"quality": 101, "format": "jpeg"}, "quality must be from 1 to 100, not 101"),
        ({"quality": 80}, "quality needs images that are re-encoded"),
        ({"quality": 80, "format": "png"}, "quality needs images that are re-encoded as JPEG or WebP"),
        ({"format": "jpg"}, "format must be one of 'keep', 'jpeg', 'webp', 'png', not 'jpg'"),
        ({"ignore_index": -1}, "ignore_index must be from 0 to 65535"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        PackOptions.of(**options)


def test_a_long_strip_resized_to_billions_of_pixels_is_refused(tmp_path: Path):
    strip = encoded(Image.fromarray(pixels(1, 4000)), "PNG")

    refused(r"x\.jpg: the resized image would have 3200000 x 800 pixels", tmp_path, strip, resize=800)
