"""Decoding gives Pillow's pixels or a DecodeError, whatever the bytes."""

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
    """Pillow's pixels; None where it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return np.asarray(image.convert("RGB"))
    except Exception:
        return None


def by_us(content: bytes) -> np.ndarray | None:
    """Our pixels; None for a DecodeError. Anything else that is raised fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of damaged metadata
            return decode_image(content)
    except DecodeError:
        return None


def assert_as_pillow(content: bytes, *, damaged: bool = False) -> None:
    """The pixels are Pillow's, or both refuse; of damaged files we refuse more: those that libjpeg warns of."""
    ours, reference = by_us(content), by_pillow(content)
    if ours is not None:
        assert np.array_equal(ours, reference)
    elif not damaged:
        assert reference is None


@pytest.mark.parametrize("name", PACKED_AS_IT_IS)
def test_pixels_are_pillow_s(name: str):
    content = EXAMPLES[name]()

    decoded = decode_image(content)

    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous and decoded.flags.writeable
    assert np.array_equal(decoded, by_pillow(content))


@pytest.mark.parametrize("name", ["rgb.jpg", "cmyk.jpg", "palette.png", "alpha.webp"])
def test_a_view_into_a_shard_decodes_like_bytes(name: str):
    content = EXAMPLES[name]()
    shard = memoryview(b"before" + content + b"behind")

    decoded = decode_image(shard[6 : 6 + len(content)])

    assert np.array_equal(decoded, decode_image(content))


def test_exif_rotation_is_not_applied():
    decoded = decode_image(EXAMPLES["rotated.jpg"]())

    assert decoded.shape == (37, 53, 3)
    assert np.array_equal(decoded, decode_image(PHOTO))


@pytest.mark.parametrize("name", ["rgb.jpg", "progressive.jpg", "gray.jpg", "restarts-by-block.jpg", "ycck.jpg"])
def test_a_jpeg_cut_off_anywhere_is_as_pillow_has_it(name: str):
    content = EXAMPLES[name]()

    for size in range(1, len(content), 7):
        assert_as_pillow(content[:size], damaged=True)


DAMAGEABLE = sorted(set(EXAMPLES) - {"moving.gif"})


@settings(max_examples=300)
@given(name=st.sampled_from(DAMAGEABLE), data=st.data())
def test_a_damaged_image_is_as_pillow_has_it_or_an_error(name: str, data: st.DataObject):
    content = bytearray(EXAMPLES[name]())
    places = st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content) - 1))  # headers are near the start
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        content[place] = value

    assert_as_pillow(bytes(content), damaged=True)


@given(content=st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"\xff\xd8\xff" + rest))
def test_bytes_that_are_no_image_are_an_error(content: bytes):
    assert_as_pillow(content)


@pytest.mark.parametrize("kind", [2, 11, 12])
def test_a_tiff_whose_offsets_are_no_numbers_of_bytes_is_an_error(kind: int):
    content = encoded(picture("L"), "TIFF").replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 273, kind))

    with pytest.raises(DecodeError, match="cannot decode the image"):
        decode_image(content)


def test_an_unknown_format_is_named_by_its_first_bytes():
    with pytest.raises(DecodeError, match=r"unknown format, 15 bytes that begin with b'<html><b'"):
        decode_image(b"<html><body></b")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims this size."""
    at = PHOTO.index(b"\xff\xc0") + 5
    return PHOTO[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + PHOTO[at + 4 :]


def png_of(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = encoded(picture("RGB"), "PNG")[33:]
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + rest


@pytest.mark.parametrize("bomb", [jpeg_of(60000, 60000), png_of(60000, 60000)], ids=["jpeg", "png"])
def test_an_image_of_billions_of_pixels_is_refused_before_memory_is_taken(bomb: bytes):
    with pytest.raises(DecodeError, match="pixels"):
        decode_image(bomb)


def test_decoding_on_threads_leaves_the_warning_filters_alone():
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
def test_a_mask_gives_the_very_label_ids(content: bytes, labels: np.ndarray):
    decoded = decode_mask(content)

    assert decoded.dtype in (np.uint8, np.int32)
    assert np.array_equal(decoded, labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_a_mask_of_several_channels_is_refused_by_its_mode(mode: str):
    content = encoded(picture(mode), "TIFF" if mode == "CMYK" else "PNG")

    with pytest.raises(DecodeError, match=f"the mask has mode {mode};"):
        decode_mask(content)


def test_a_cut_off_mask_is_whole_or_an_error():
    content = mask_file(LABELS)
    whole = 0

    for size in range(1, len(content)):
        try:
            assert np.array_equal(decode_mask(content[:size]), LABELS)
            whole += 1
        except DecodeError:
            pass

    assert whole < 30  # checksums and the end mark: all pixels are there


def test_postscript_is_refused_and_no_program_is_run_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ran = tmp_path / "ran"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"

    with pytest.raises(DecodeError, match=r"unknown format, .* begin with b'%!PS-Ado'"):
        decode_image(postscript)

    assert not ran.exists()


def test_the_bound_on_pixels_is_the_caller_s():
    content = encoded(picture("RGB"), "PNG")
    height, width = decode_image(content).shape[:2]

    assert decode_image(content, max_pixels=height * width).shape[:2] == (height, width)
    for file, decode in ((content, decode_image), (PHOTO, decode_image), (mask_file(LABELS), decode_mask)):
        with pytest.raises(DecodeError, match=r"at most 9 are accepted \(max_pixels\)"):
            decode(file, max_pixels=9)
