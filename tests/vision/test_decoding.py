"""Decoding any bytes gives the pixels of Pillow or a DecodeError."""

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mps_shards.errors import DecodeError
from mps_shards.vision.decoding import decode_image, decode_mask
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, encoded, picture

PHOTO = EXAMPLES["rgb.jpg"]()


def by_pillow(content: bytes) -> np.ndarray | None:
    """Return the pixels of Pillow; None if Pillow raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image.convert("RGB"))
    except Exception:
        return None


def by_us(content: bytes) -> np.ndarray | None:
    """Return the pixels of `decode_image`; None for a DecodeError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
            return decode_image(content)
    except DecodeError:
        return None


def assert_as_pillow(content: bytes, *, damaged: bool = False) -> None:
    """Check that the pixels equal those of Pillow, or that both refuse; files of which libjpeg warns may be refused."""
    ours, reference = by_us(content), by_pillow(content)
    if ours is not None:
        assert np.array_equal(ours, reference)
    elif not damaged:
        assert reference is None


@pytest.mark.parametrize("name", PACKED_AS_IT_IS)
def test_decoded_pixels_equal_those_of_pillow(name: str):
    content = EXAMPLES[name]()

    decoded = decode_image(content)

    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous and decoded.flags.writeable
    assert np.array_equal(decoded, by_pillow(content))


@pytest.mark.parametrize("name", ["rgb.jpg", "cmyk.jpg", "palette.png", "alpha.webp"])
def test_a_memoryview_decodes_like_bytes(name: str):
    content = EXAMPLES[name]()
    shard = memoryview(b"before" + content + b"behind")

    decoded = decode_image(shard[6 : 6 + len(content)])

    assert np.array_equal(decoded, decode_image(content))


def test_exif_rotation_is_not_applied():
    decoded = decode_image(EXAMPLES["rotated.jpg"]())

    assert decoded.shape == (37, 53, 3)
    assert np.array_equal(decoded, decode_image(PHOTO))


@pytest.mark.parametrize("name", ["rgb.jpg", "progressive.jpg", "gray.jpg", "restarts-by-block.jpg", "ycck.jpg"])
def test_a_truncated_jpeg_decodes_as_in_pillow_or_is_an_error(name: str):
    content = EXAMPLES[name]()

    for size in range(1, len(content), 7):
        assert_as_pillow(content[:size], damaged=True)


DAMAGEABLE = sorted(set(EXAMPLES) - {"moving.gif"})


@settings(max_examples=300)
@given(name=st.sampled_from(DAMAGEABLE), data=st.data())
def test_a_damaged_image_decodes_as_in_pillow_or_is_an_error(name: str, data: st.DataObject):
    content = bytearray(EXAMPLES[name]())
    # headers lie near the start of a file
    places = st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[place] = value

    assert_as_pillow(bytes(content), damaged=True)


@given(content=st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"\xff\xd8\xff" + rest))
def test_bytes_that_are_not_an_image_are_an_error(content: bytes):
    assert_as_pillow(content)


@pytest.mark.parametrize("kind", [2, 11, 12])
def test_a_tiff_whose_strip_offsets_have_a_wrong_type_is_an_error(kind: int):
    content = encoded(picture("L"), "TIFF").replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 273, kind))

    with pytest.raises(DecodeError, match="cannot decode the image"):
        decode_image(content)


def test_an_error_about_an_unknown_format_shows_the_first_bytes():
    with pytest.raises(DecodeError, match=r"unknown format, 15 bytes that begin with b'<html><b'"):
        decode_image(b"<html><body></b")


def jpeg_of(width: int, height: int) -> bytes:
    """Return a JPEG whose header states this size."""
    at = PHOTO.index(b"\xff\xc0") + 5
    return PHOTO[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + PHOTO[at + 4 :]


def png_of(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = encoded(picture("RGB"), "PNG")[33:]
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + rest


@pytest.mark.parametrize("bomb", [jpeg_of(60000, 60000), png_of(60000, 60000)], ids=["jpeg", "png"])
def test_an_image_of_billions_of_pixels_is_refused_before_memory_is_allocated(bomb: bytes):
    with pytest.raises(DecodeError, match="pixels"):
        decode_image(bomb)


def test_decoding_in_threads_does_not_change_the_warning_filters():
    content, before = EXAMPLES["palette-translucent.png"](), list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode_image, [content] * 500))
    finally:
        sys.setswitchinterval(interval)

    assert warnings.filters == before


LABELS = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20) % 7


def mask_file(labels: np.ndarray, mode: str | None = None, kind: str = "PNG", **options: object) -> bytes:
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette([255 - value // 3 for value in range(768)])
    return encoded(image, kind, **options)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (mask_file(LABELS), LABELS),
        (mask_file(LABELS, "P"), LABELS),
        (mask_file(LABELS, "P", bits=4), LABELS),
        (mask_file(LABELS, "P", transparency=0), LABELS),
        (mask_file(LABELS.astype(bool)), LABELS > 0),
        (mask_file(np.where(LABELS, LABELS, 255).astype(np.uint8)), np.where(LABELS, LABELS, 255)),
        (mask_file(LABELS.astype(np.uint16) * 10000), LABELS.astype(int) * 10000),
        (mask_file(LABELS, kind="TIFF"), LABELS),
        (mask_file(LABELS.astype(np.int32) * 100_000, kind="TIFF"), LABELS.astype(int) * 100_000),
    ],
    ids=["gray", "palette", "palette-4-bit", "palette-transparent", "one-bit", "255", "16-bit", "tiff", "32-bit"],
)
def test_a_decoded_mask_has_exactly_the_label_ids_of_its_file(content: bytes, labels: np.ndarray):
    decoded = decode_mask(content)

    assert decoded.dtype in (np.uint8, np.int32)
    assert np.array_equal(decoded, labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_a_mask_with_several_channels_is_an_error_that_names_its_mode(mode: str):
    content = encoded(picture(mode), "TIFF" if mode == "CMYK" else "PNG")

    with pytest.raises(DecodeError, match=f"the mask has mode {mode};"):
        decode_mask(content)


def test_a_truncated_mask_has_all_its_pixels_or_is_an_error():
    content = mask_file(LABELS)
    whole = 0

    for size in range(1, len(content)):
        try:
            assert np.array_equal(decode_mask(content[:size]), LABELS)
            whole += 1
        except DecodeError:
            pass

    assert whole < 30  # only checksums and the end marker are missing, no pixels


def test_postscript_is_refused_without_running_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ran = tmp_path / "ran"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"

    with pytest.raises(DecodeError, match=r"unknown format, .* begin with b'%!PS-Ado'"):
        decode_image(postscript)

    assert not ran.exists()


def test_the_caller_chooses_the_limit_for_pixels():
    content = encoded(picture("RGB"), "PNG")
    height, width = decode_image(content).shape[:2]

    assert decode_image(content, max_pixels=height * width).shape[:2] == (height, width)
    for file, decode in ((content, decode_image), (PHOTO, decode_image), (mask_file(LABELS), decode_mask)):
        with pytest.raises(DecodeError, match=r"at most 9 are accepted \(max_pixels\)"):
            decode(file, max_pixels=9)
