"""Rotating, resizing and encoding images gives the pixels of Pillow, and equal bytes each time."""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from mps_shards.errors import DataError, DecodeError
from mps_shards.vision import encoding
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.encoding import encoded_anew, read_header, turned, turned_size
from mps_shards.vision.jpeg_segments import plain_jpeg_header
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, encoded, picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def rotated(orientation: int, kind: str = "JPEG", **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture("RGB"), kind, exif=exif, **options)


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("name", PACKED_AS_IT_IS)
def test_the_header_gives_the_size_of_the_decoded_image(name: str):
    content = EXAMPLES[name]()

    assert read_header(content).size == decode_image(content).shape[:2]


def test_the_format_is_recognised_by_the_content():
    assert read_header(EXAMPLES["a-png-named.jpg"]()).format == "png"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_gives_the_orientation(kind: str, orientation: int):
    assert read_header(rotated(orientation, kind)).orientation == orientation


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_counts_as_upright(value: int):
    assert read_header(rotated(value)).orientation == 1


def test_a_tiff_counts_as_upright_because_pillow_rotates_it():
    content = rotated(6, "TIFF")

    assert read_header(content).orientation == 1
    assert read_header(content).size == decode_image(content).shape[:2]


@given(data=st.data())
def test_an_image_with_damaged_metadata_has_a_header_if_it_decodes(data: st.DataObject):
    content = bytearray(rotated(6, icc_profile=SRGB))
    end = content.index(b"\xff\xdb")  # the metadata comes before the first table
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, end), st.integers(0, 255)), min_size=1)):
        content[place] = value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        try:
            shape = decode_image(bytes(content)).shape[:2]
        except DecodeError:
            return
        assert read_header(bytes(content)).size == shape


@pytest.mark.parametrize("content", [b"RIFF of no kind", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""])
def test_content_without_an_image_header_is_an_error(content: bytes):
    with pytest.raises(DecodeError, match="cannot read the image's header: "):
        read_header(content)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotating_equals_pillow_s_transpose(orientation: int):
    image = opened(rotated(orientation, "PNG"))

    pixels = turned(np.asarray(image), orientation)

    assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(image)))
    assert turned_size((image.height, image.width), orientation) == pixels.shape[:2]


@pytest.mark.parametrize("name", ["rgb.jpg", "gray.jpg", "cmyk.jpg", "palette.png", "rgba.png"])
def test_images_resized_and_encoded_without_loss_equal_pillow_s(name: str):
    content = EXAMPLES[name]()
    header = read_header(content)

    anew = encoded_anew(content, header, turn=1, size=(20, 31), kind="png", quality=90)

    reference = opened(content).convert("RGB").resize((31, 20), Image.Resampling.LANCZOS)
    assert np.array_equal(decode_image(anew), np.asarray(reference))


def test_encoding_as_png_without_resizing_keeps_every_pixel():
    content = EXAMPLES["rgb.jpg"]()

    anew = encoded_anew(content, read_header(content), turn=1, size=(37, 53), kind="png", quality=90)

    assert np.array_equal(decode_image(anew), decode_image(content))


def test_the_first_frame_of_an_animation_is_encoded():
    content = EXAMPLES["moving.gif"]()
    header = read_header(content)

    anew = encoded_anew(content, header, turn=1, size=header.size, kind="png", quality=90)

    assert np.array_equal(decode_image(anew), decode_image(content))


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_equal_arguments_give_equal_bytes_of_the_chosen_format(kind: str):
    content = EXAMPLES["rgb.jpg"]()
    once, again = (
        encoded_anew(content, read_header(content), turn=6, size=(53, 37), kind=kind, quality=80) for _ in range(2)
    )

    assert once == again
    assert read_header(once).format == kind


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_higher_quality_takes_more_bytes_and_changes_pixels_less(kind: str):
    content = EXAMPLES["rgb.jpg"]()
    pixels = decode_image(content).astype(int)

    files = [
        encoded_anew(content, read_header(content), turn=1, size=(37, 53), kind=kind, quality=quality)
        for quality in (20, 90)
    ]

    errors = [np.abs(decode_image(file).astype(int) - pixels).mean() for file in files]
    assert len(files[0]) < len(files[1]) and errors[0] > errors[1]


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_encoding_anew_keeps_the_colour_profile_and_drops_other_metadata(kind: str):
    content = rotated(6, icc_profile=SRGB, comment=b"taken at home")

    anew = encoded_anew(content, read_header(content), turn=6, size=(53, 37), kind=kind, quality=90)

    assert opened(anew).info["icc_profile"] == SRGB
    assert not opened(anew).getexif()
    assert b"taken at home" not in anew


def test_an_orientation_that_is_not_applied_is_kept():
    content = rotated(6)

    anew = encoded_anew(content, read_header(content), turn=1, size=(10, 14), kind="jpeg", quality=90)

    assert read_header(anew).orientation == 6
    assert read_header(anew).size == (10, 14)


def test_the_profile_of_cmyk_is_dropped_when_an_image_becomes_rgb():
    content = encoded(picture("CMYK"), "JPEG", icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])

    anew = encoded_anew(content, read_header(content), turn=1, size=(20, 20), kind="jpeg", quality=90)

    assert "icc_profile" not in opened(anew).info


def test_resizing_beyond_the_pixel_limit_is_refused_before_memory_is_allocated():
    content = EXAMPLES["rgb.jpg"]()

    with pytest.raises(DataError, match="the resized image would have 30000 x 10000 pixels, but at most 178,956,970"):
        encoded_anew(content, read_header(content), turn=1, size=(10000, 30000), kind="jpeg", quality=90)


def test_an_error_names_a_size_that_the_format_does_not_support():
    content = encoded(Image.new("RGB", (40, 1)), "PNG")

    with pytest.raises(DataError, match="cannot encode 20000 x 1 pixels as webp: "):
        encoded_anew(content, read_header(content), turn=1, size=(1, 20000), kind="webp", quality=90)


PLAIN = {
    "colour": lambda: encoded(picture("RGB"), "JPEG"),
    "gray": lambda: encoded(picture("L"), "JPEG"),
    "progressive": lambda: encoded(picture("RGB"), "JPEG", progressive=True),
    "restarts": lambda: encoded(picture("RGB"), "JPEG", restart_marker_blocks=2),
    "comment": lambda: encoded(picture("RGB"), "JPEG", comment=b"\xff\xda a comment"),
}
OTHER = {
    "exif": lambda: rotated(6),
    "profile": lambda: encoded(picture("RGB"), "JPEG", icc_profile=SRGB),
    "four inks": lambda: encoded(picture("CMYK"), "JPEG"),
}


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_a_jpeg_header_read_without_pillow_equals_what_pillow_reads(name: str, monkeypatch: pytest.MonkeyPatch):
    content = (PLAIN | OTHER)[name]()
    found = read_header(content)

    monkeypatch.setattr(encoding, "plain_jpeg_header", lambda content: None)

    assert found == read_header(content)


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_only_the_header_of_a_jpeg_without_metadata_is_read_without_pillow(name: str):
    found = plain_jpeg_header((PLAIN | OTHER)[name]())

    assert (found is not None) == (name in PLAIN)


@given(st.data())
def test_a_damaged_jpeg_header_gives_a_valid_size_or_none(data: st.DataObject):
    content = bytearray(PLAIN["restarts"]())
    stop = data.draw(st.integers(0, len(content)))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))

    found = plain_jpeg_header(bytes(content[:stop]))

    assert found is None or (found[0] in ("L", "RGB") and min(found[1:]) > 0)
