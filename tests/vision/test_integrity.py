"""Damage that decoders ignore is an error: all damage of label maps, and damage of JPEGs that libjpeg notices."""

import re

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from mps_shards.errors import DecodeError
from mps_shards.vision.decoding import decode_image, decode_mask
from mps_shards.vision.integrity import check_integrity
from tests.support.images import EXAMPLES, encoded

IDS = np.random.default_rng(0).integers(0, 5, (24, 32), dtype=np.uint8)
MASK = encoded(Image.fromarray(IDS), "PNG")


def photo() -> bytes:
    """Return a JPEG with many pixels after any damage in its middle."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 255, 160)[None, :, None] * np.array([1, 0.5, 0.2])
    return bytes(simplejpeg.encode_jpeg((ramp + rng.normal(0, 12, (120, 160, 3))).clip(0, 255).astype(np.uint8), 90))


PHOTO = photo()


def test_every_flipped_bit_of_a_small_label_map_is_detected():
    wrong = []
    for bit in range(8 * len(MASK)):
        damaged = bytearray(MASK)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            if not np.array_equal(decode_mask(bytes(damaged)), IDS):
                wrong.append(bit)
        except DecodeError:
            pass

    assert wrong == []


@pytest.mark.parametrize("size", [8, 20, 33, len(MASK) - 12, len(MASK) - 1])
def test_a_truncated_label_map_is_an_error(size: int):
    with pytest.raises(DecodeError):
        decode_mask(MASK[:size])


def test_the_error_about_a_wrong_checksum_names_the_png_chunk():
    damaged = bytearray(MASK)
    damaged[60] ^= 4

    with pytest.raises(DecodeError, match=r"the PNG is damaged: its chunk 'IDAT' at byte 33 has a wrong CRC-32"):
        decode_mask(bytes(damaged))


def test_bytes_after_the_end_of_a_label_map_are_ignored():
    assert np.array_equal(decode_mask(MASK + b"written by a tool"), IDS)


def test_a_label_map_in_jpeg_format_is_refused_whatever_its_name():
    with pytest.raises(DecodeError, match="the mask is a JPEG, which is lossy and changes label ids"):
        decode_mask(encoded(Image.fromarray(IDS), "JPEG", quality=95))


@pytest.mark.parametrize("name", ["lossless.webp", "alpha.webp", "lossy.webp"])
def test_the_sizes_in_a_webp_are_checked(name: str):
    content = EXAMPLES[name]()

    check_integrity(content)
    check_integrity(content + b"\0\0")
    with pytest.raises(DecodeError, match=f"it has {len(content) - 2} bytes, but its header states {len(content)}"):
        check_integrity(content[:-2])
    with pytest.raises(DecodeError, match="the WebP is damaged: its chunks end at byte"):
        check_integrity(content[:16] + bytes([content[16] ^ 2]) + content[17:])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_undamaged_files_of_every_format_pass(name: str):
    check_integrity(EXAMPLES[name]())


def test_a_jpeg_whose_missing_pixels_libjpeg_fills_in_is_an_error():
    """libjpeg fills the missing lower half of such images with gray."""
    middle = len(PHOTO) // 2
    for lost in range(40, 60):
        content = PHOTO[:middle] + PHOTO[middle + 20 * lost :]
        try:
            simplejpeg.decode_jpeg(content, "RGB")
        except ValueError:
            with pytest.raises(DecodeError, match=r"the JPEG is damaged, and some of its pixels would be wrong: Corr"):
                decode_image(content)
            return
    pytest.fail("libjpeg noticed none of these gaps: choose others")


def test_data_after_the_last_pixel_is_an_error_unless_it_is_padding():
    zeroed = PHOTO[:3000] + bytes(64) + PHOTO[3064:]
    padded = PHOTO[:-2] + bytes(100) + PHOTO[-2:]

    with pytest.raises(DecodeError, match=r"\d+ extraneous bytes before marker 0xd9"):
        decode_image(zeroed)

    assert np.array_equal(decode_image(padded), decode_image(PHOTO))
    assert np.array_equal(decode_image(PHOTO + b"\0tail" * 9), decode_image(PHOTO))


def test_gray_values_that_would_be_clipped_are_refused_and_others_are_not():
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)

    message = "the image has gray values from 0 to 767, which 8 bits would clip; convert them when packing"
    with pytest.raises(DecodeError, match=re.escape(message)):
        decode_image(encoded(Image.fromarray(deep), "PNG"))

    shallow = decode_image(encoded(Image.fromarray(deep // 4), "PNG"))
    assert np.array_equal(shallow[..., 0], deep // 4)


def test_float_images_are_refused():
    with pytest.raises(DecodeError, match=r"gray values from 0\.0 to 1\.0, which 8 bits would clip"):
        decode_image(encoded(Image.fromarray(np.eye(4, dtype=np.float32)), "TIFF"))
