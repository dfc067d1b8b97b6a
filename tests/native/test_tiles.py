"""Tiled JPEGs have the pixels and metadata of the original, and crops can be decoded from their tiles alone."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mps_shards.native import Decoder, is_tiled, tiled
from mps_shards.native.kernel import Layout
from mps_shards.native.tiles import original_sha256
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.views import HAS_UINT8_KERNELS, View
from tests.native.test_kernel import as_python, jpegs, views
from tests.support.images import encoded, picture, turbo
from tests.support.native import by_kernel, by_python, needs_kernel, numbers

pytestmark = needs_kernel()


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def segments(content: bytes) -> list[bytes]:
    """Return the application and comment segments of the header, with their markers."""
    found, at = [], 2
    while content[at + 1] != 0xDA:
        length = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at + 1] >= 0xE0:
            found.append(content[at : at + length])
        at += length
    return found


@settings(max_examples=150)
@given(made=jpegs())
def test_a_tiled_jpeg_has_the_pixels_of_the_original(made: tuple[bytes, int, int]):
    content, height, width = made

    rewritten = tiled(content)

    assert rewritten is not None
    pixels = decode_image(rewritten)
    assert pixels.shape == (height, width, 3)
    assert np.array_equal(pixels, decode_image(content))
    assert np.array_equal(pixels, by_pillow(rewritten))


@pytest.mark.skipif(not HAS_UINT8_KERNELS, reason="torch has no uint8 kernels for this processor")
@settings(max_examples=200)
@given(data=st.data())
def test_a_crop_of_a_tiled_jpeg_has_the_pixels_of_the_original(data: st.DataObject):
    content, height, width = data.draw(jpegs())
    view = data.draw(views(height, width))
    factor = data.draw(st.sampled_from([1, view.factor()]))
    rewritten = tiled(content)
    assert rewritten is not None

    rendered = by_kernel(rewritten, view, factor=factor)

    assert rendered is not None
    assert np.array_equal(rendered, by_python(content, view, factor=factor))


def test_progressive_files_become_baseline_and_stay_small():
    content = encoded(picture("RGB", 200, 300), "JPEG", progressive=True, quality=90)

    rewritten = tiled(content)

    assert rewritten is not None
    assert b"\xff\xc2" in content and b"\xff\xc0" in rewritten
    assert len(rewritten) < 1.15 * len(content)


def test_tiling_keeps_metadata_in_order_and_adds_one_segment():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(
        picture("RGB"), "JPEG", exif=exif, icc_profile=b"colours" * 20_000, comment=b"a comment", dpi=(72, 300)
    )

    rewritten = tiled(content)

    assert rewritten is not None
    assert [segment for segment in segments(rewritten) if not segment.startswith(b"\xff\xea")] == segments(content)
    assert original_sha256(rewritten) == hashlib.sha256(content).hexdigest()
    with Image.open(io.BytesIO(rewritten)) as image:
        assert image.getexif()[0x0112] == 6
        assert image.info["icc_profile"] == b"colours" * 20_000


def test_tiling_is_deterministic_and_does_not_change_tiled_files():
    content = turbo("RGB", "420", height=75, width=130)

    once = tiled(content)

    assert once is not None and once == tiled(content)
    assert is_tiled(once) and not is_tiled(content)
    assert tiled(once) == once


BEHIND = encoded(picture("RGB"), "JPEG") + b"motion"
NOT_REWRITTEN = {
    "png": encoded(picture("RGB"), "PNG"),
    "cmyk": encoded(picture("CMYK"), "JPEG"),
    "rgb": encoded(picture("RGB"), "JPEG", keep_rgb=True),
    "behind-its-end": BEHIND,
    "cut-off": encoded(picture("RGB"), "JPEG")[:-40],
    "cut-off-progressive": encoded(picture("RGB"), "JPEG", progressive=True)[:-200] + b"\xff\xd9",
    "empty": b"",
}


@pytest.mark.parametrize("name", NOT_REWRITTEN)
def test_files_that_cannot_be_tiled_without_loss_are_refused(name: str):
    assert tiled(NOT_REWRITTEN[name]) is None
    assert original_sha256(NOT_REWRITTEN[name]) is None


VIEW = View((30, 50, 20, 30), (9, 9), None, True)


def test_a_truncated_tiled_jpeg_is_rendered_as_by_python_or_declined():
    content = tiled(encoded(picture("RGB", 60, 90), "JPEG"))
    assert content is not None

    assert as_python(content, VIEW)
    for size in range(0, len(content), 5):
        as_python(content[:size], VIEW)
        as_python(content[:size] + b"\xff\xd9", VIEW, undamaged=content)


@settings(max_examples=500)
@given(place=st.integers(0, 5000), value=st.integers(0, 255) | st.just(255))
def test_damage_in_the_tiles_of_a_crop_is_rendered_as_by_python_or_declined(place: int, value: int):
    """Damage in other tiles changes nothing."""
    whole = tiled(encoded(picture("RGB", 60, 90), "JPEG"))
    assert whole is not None
    scan = whole.index(b"\xff\xda") + 14
    content = bytearray(whole)
    content[scan + place % (len(content) - scan)] = value
    rendered = by_kernel(bytes(content), VIEW)

    if rendered is not None and not np.array_equal(rendered, by_python(whole, VIEW)):
        assert as_python(bytes(content), VIEW)


def test_a_crop_of_a_large_tiled_image_decodes_only_its_tiles():
    """The damage lies far from the crop, keeps the restart markers, and is never decoded."""
    content = tiled(encoded(picture("RGB", 600, 800), "JPEG"))
    assert content is not None
    damaged = bytearray(content)
    middle = content.index(b"\xff\xd3", len(content) // 2)
    damaged[middle + 2 : middle + 6] = b"\0\0\0\0"
    view = np.array([numbers(View((0, 0, 40, 40), (20, 20), None, False))], np.int32)
    rows = np.zeros((1, 3, 20, 20), np.uint8)

    assert Decoder().render([bytes(damaged)], view, rows, layout=Layout.BYTE_PLANES, max_pixels=1 << 20) == b"\2"
    assert np.array_equal(rows[0], by_kernel(content, View((0, 0, 40, 40), (20, 20), None, False)))
