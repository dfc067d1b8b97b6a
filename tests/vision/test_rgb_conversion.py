"""16-bit, float, transparent and many-channel images become 8-bit RGB if options say how, and are refused otherwise."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, features

from mps_shards.errors import ConfigError, DataError, DecodeError
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.encoding import read_header
from mps_shards.vision.image_files import begins_like_image
from mps_shards.vision.rgb_conversion import RgbConversion, changes_to_rgb
from tests.support.images import EXAMPLES, encoded, picture


def deep_png(values: np.ndarray) -> bytes:
    """Return a 16-bit PNG of values [height, width] or [height, width, channels]; Pillow cannot write it."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values[0, 0].size]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tiff(values: np.ndarray, **options: object) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", **options)


def many_channels(count: int) -> bytes:
    """Return a TIFF of one pixel with `count` 8-bit channels."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 122), (277, count), (278, 1), (279, count)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + bytes(count)


GRAY = np.array([[0, 1000], [2000, 4000]], np.uint16)
COLOUR = np.array([[[0, 256, 65535], [1000, 2000, 3000]]], np.uint16)


def converted(content: bytes, **options: object) -> list:
    conversion = RgbConversion(**options)
    losses = read_header(content).losses
    assert conversion.alters(content, losses, looks=True)
    return conversion.pixels(content, losses).tolist()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("scale", [[0, 64], [128, 255]]),
        ("window=1000,3000", [[0, 0], [128, 255]]),
        ("clip", [[0, 255], [255, 255]]),
    ],
)
@pytest.mark.parametrize("write", [deep_png, tiff, lambda values: encoded(Image.fromarray(values), "PPM")])
def test_deep_gray_values_become_8_bits_as_asked(write, how: str, expected: list):
    assert converted(write(GRAY), to_8bit=how) == expected


def test_float_values_become_8_bits_as_asked():
    content = tiff(np.array([[-1.0, 0.0], [0.5, 1.0]], np.float32))

    assert converted(content, to_8bit="scale") == [[0, 128], [191, 255]]
    assert converted(content, to_8bit="window=0,1") == [[0, 0], [128, 255]]
    assert converted(content, to_8bit="clip") == [[0, 0], [0, 1]]


def test_16_bit_colours_are_converted_from_all_their_bits():
    assert converted(deep_png(COLOUR), to_8bit="clip") == [[[0, 255, 255], [255, 255, 255]]]
    assert converted(deep_png(COLOUR), to_8bit="window=0,3000") == [[[0, 22, 255], [85, 170, 255]]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colours_of_a_tiff_are_converted_from_all_their_bits(order: str, compressed: bool):
    data = COLOUR.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    tags = [(256, 2), (257, 1), (258, 122), (259, 8 if compressed else 1), (262, 2), (273, 128), (277, 3), (278, 1)]
    tags += [(279, len(data))]
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) if tag != 258 else struct.pack(f"{order}HHII", tag, 3, 3, value)
        for tag, value in tags
    )
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8) + directory + bytes(4)
    content += struct.pack(f"{order}HHH", 16, 16, 16) + data

    assert converted(content, to_8bit="window=0,3000") == [[[0, 22, 255], [85, 170, 255]]]


def test_scaling_an_image_with_one_value_gives_black():
    assert converted(deep_png(np.full((1, 2), 700, np.uint16)), to_8bit="scale") == [[0, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_values_are_refused(value: float):
    content = tiff(np.array([[0.5, value]], np.float32))

    with pytest.raises(DecodeError, match="values that are NaN or infinite"):
        converted(content, to_8bit="scale")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (deep_png(GRAY), "16-bit values"),
        (deep_png(COLOUR), "16-bit colour values"),
        (tiff(GRAY.astype(np.float32)), "float values"),
        (tiff(GRAY.astype(np.int32)), "integer values of more than 8 bits"),
        (b"P6 1 1 4095\n" + bytes(6), "16-bit colour values"),
    ],
)
@pytest.mark.parametrize("looks", [True, False])
def test_deep_images_are_refused_unless_an_option_says_how(content: bytes, words: str, looks: bool):
    [loss] = changes_to_rgb(content)
    assert loss == ("depth", words)

    with pytest.raises(DataError, match=rf"the image has {words}, and training gets 8 bits; .* --to-8bit scale"):
        RgbConversion().alters(content, (loss,), looks=looks)


def test_an_alpha_channel_without_transparent_pixels_changes_nothing():
    image = picture("RGBA")
    image.putalpha(255)
    content = encoded(image, "PNG")

    assert changes_to_rgb(content) == ()
    for conversion in (RgbConversion(), RgbConversion(background="white"), RgbConversion(drop_alpha=True)):
        assert not conversion.alters(content, read_header(content).losses, looks=True)


@pytest.mark.parametrize("name", ["rgba.png", "gray-alpha.png", "palette-translucent.png", "alpha.webp"])
def test_transparent_pixels_are_refused_or_blended_with_the_background(name: str):
    content = EXAMPLES[name]()
    [loss] = changes_to_rgb(content)
    assert loss.kind == "alpha"

    with pytest.raises(DataError, match=r"transparent pixels.*--background COLOUR.*--drop-alpha"):
        RgbConversion().alters(content, (loss,), looks=True)
    assert not RgbConversion(drop_alpha=True).alters(content, (loss,), looks=True)

    pixels = np.array(converted(content, background="#ff8000"))
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    behind = Image.new("RGBA", image.size, (255, 128, 0, 255))
    assert np.array_equal(pixels, np.asarray(Image.alpha_composite(behind, image).convert("RGB")))


def test_16_bit_colours_are_blended_with_the_background():
    values = np.array([[[3000, 0, 0, 65535], [3000, 0, 0, 0]]], np.uint16)

    pixels = converted(deep_png(values), to_8bit="window=0,3000", background="blue")

    assert pixels == [[[255, 0, 0], [0, 0, 255]]]


def test_a_fourth_channel_that_is_not_alpha_is_refused_unless_it_may_be_dropped():
    content = encoded(picture("RGBA"), "TIFF")
    tag = struct.pack("<HHI", 338, 3, 1)  # tag ExtraSamples: 2 is unassociated alpha, 0 is unspecified
    place = content.index(tag) + len(tag)
    content = content[:place] + b"\0" + content[place + 1 :]
    [loss] = changes_to_rgb(content)
    assert loss == ("channels", "4 channels, of which RGB holds 3")

    with pytest.raises(DataError, match="--drop-alpha leaves the fourth channel out"):
        RgbConversion(background="white").alters(content, (loss,), looks=False)
    assert not RgbConversion(drop_alpha=True).alters(content, (loss,), looks=True)


def test_the_error_about_more_than_four_channels_names_their_number():
    for read in (changes_to_rgb, read_header, decode_image):
        with pytest.raises(DecodeError, match="the image has 13 channels; images have at most four"):
            read(many_channels(13))


@pytest.mark.parametrize("name", ["rgb.jpg", "cmyk.jpg", "gray.png", "palette.png", "rgb.tif", "one-bit.bmp"])
def test_images_that_rgb_can_hold_are_not_changed(name: str):
    assert changes_to_rgb(EXAMPLES[name]()) == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"to_8bit": "stretch"}, "scale, clip or window=LOW,HIGH"),
        ({"to_8bit": "window=5"}, "window=LOW,HIGH"),
        ({"to_8bit": "window=9,1"}, "window=LOW,HIGH"),
        ({"to_8bit": "window=0,nan"}, "window=LOW,HIGH"),
        ({"background": "no such colour"}, "is not a colour"),
        ({"background": "white", "drop_alpha": True}, "needs the alpha channel"),
    ],
)
def test_invalid_options_are_refused(options: dict, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        RgbConversion(**options)


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(picture("RGB", 48, 64)).save(file, quality=90)
    return file.getvalue()


def jxl() -> bytes:
    pytest.importorskip("pillow_jxl")
    return encoded(picture("RGB", 48, 64), "JXL", quality=95)


@pytest.mark.parametrize(("make", "kind"), [(heic, "heif"), (jxl, "jxl")])
def test_heic_and_jpeg_xl_are_decoded(make, kind: str):
    content = make()

    assert begins_like_image(content)
    header = read_header(content)
    assert (header.format, header.size, header.losses) == (kind, (48, 64), ())
    error = np.abs(decode_image(content).astype(int) - np.asarray(picture("RGB", 48, 64)))
    assert error.mean() < 40  # lossy, and half of the image is noise


@pytest.mark.parametrize(
    ("content", "package", "extra"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", "heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "pillow_heif", "heif"),
        (b"\xff\x0a\xcb\x06", "pillow_jxl", "jxl"),
    ],
)
def test_the_error_about_a_missing_package_names_the_extra(
    content: bytes, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.JpegXLImagePlugin", None)

    for read in (decode_image, read_header, changes_to_rgb):
        with pytest.raises(ConfigError, match=rf"pip install 'mps-shards\[{extra}\]'"):
            read(content)


@pytest.mark.parametrize("make", [heic, jxl])
def test_truncated_heic_and_jpeg_xl_files_are_decode_errors(make):
    content = make()

    for size in range(16, len(content), 97):
        with pytest.raises(DecodeError):
            decode_image(content[:size])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_an_avif_whose_first_brand_is_generic_is_not_taken_for_heic():
    content = EXAMPLES["rgb.avif"]()
    renamed = content.replace(b"ftypavif", b"ftypmif1", 1)

    assert np.array_equal(decode_image(renamed), decode_image(content))
