"""The kernel renders the pixels of the Python path, declines unusual files, and checks its arguments."""

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mps_shards import native
from mps_shards.errors import DecodeError
from mps_shards.native import Layout
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.views import HAS_UINT8_KERNELS, View
from tests.support.images import encoded, picture, turbo
from tests.support.native import by_kernel, by_python, needs_kernel, numbers

pytestmark = needs_kernel()

PHOTO = encoded(picture("RGB", 60, 90), "JPEG", quality=90)


@st.composite
def jpegs(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """Draw a JPEG, its height and its width."""
    sides = st.integers(1, 40) | st.integers(1, 300)
    height, width = draw(sides), draw(sides)
    quality = draw(st.sampled_from([20, 75, 97]))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["444", "422", "420", "440", "411"]))
        return turbo("RGB", kind, height=height, width=width, quality=quality), height, width
    options = {"quality": quality, "subsampling": draw(st.sampled_from([0, 1, 2]))}
    if draw(st.booleans()):  # not together with restart markers, for which Pillow reserves too little memory
        options["progressive"] = True
    else:
        options["restart_marker_blocks"] = draw(st.sampled_from([0, 1, 2, 3, 5]))
        options["restart_marker_rows"] = draw(st.sampled_from([0, 0, 1, 2]))
    image = picture(draw(st.sampled_from(["RGB", "RGB", "L"])), height, width)
    # Pillow reserves too little memory for small files with much data
    with mock.patch.object(ImageFile, "MAXBLOCK", 1 << 21):
        return encoded(image, "JPEG", **options), height, width


@st.composite
def spans(draw: st.DrawFn, side: int) -> tuple[int, int]:
    """Draw the start and length of a part of a side; often at one of its ends."""
    length = draw(st.integers(1, side))
    return draw(st.sampled_from([0, side - length]) | st.integers(0, side - length)), length


@st.composite
def views(draw: st.DrawFn, height: int, width: int) -> View:
    """Draw a view of an image of this size."""
    (top, tall), (left, wide) = draw(spans(height)), draw(spans(width))
    resized = draw(st.integers(1, 90) | st.just(tall)), draw(st.integers(1, 90) | st.just(wide))
    crop = None
    if draw(st.booleans()):
        (y, rows), (x, columns) = draw(spans(resized[0])), draw(spans(resized[1]))
        crop = (y, x, rows, columns)
    return View((top, left, tall, wide), resized, crop, draw(st.booleans()))


@pytest.mark.skipif(not HAS_UINT8_KERNELS, reason="torch has no uint8 kernels for this processor")
@settings(max_examples=400)
@given(data=st.data())
def test_the_kernel_renders_the_pixels_of_the_python_path(data: st.DataObject):
    content, height, width = data.draw(jpegs())
    view = data.draw(views(height, width))
    factor = data.draw(st.sampled_from([1, view.factor()]))

    rendered = by_kernel(content, view, factor=factor)

    assert rendered is not None
    assert np.array_equal(rendered, by_python(content, view, factor=factor))


@given(data=st.data())
def test_the_portable_and_the_fastest_passes_give_the_same_pixels(data: st.DataObject):
    content, height, width = data.draw(jpegs())
    view = data.draw(views(height, width))

    assert np.array_equal(by_kernel(content, view, portable=True), by_kernel(content, view))


def test_every_value_is_divided_as_to_tensor_does():
    gray = np.repeat(np.arange(256, dtype=np.uint8), 8 * 8).reshape(256, 8, 8)  # one 8 x 8 block for each value
    content = encoded(Image.fromarray(np.concatenate(gray, axis=1)), "JPEG", quality=100)
    values = decode_image(content)
    whole = View((0, 0, *values.shape[:2]), values.shape[:2], None, False)
    rows = np.empty((1, 3, *values.shape[:2]), np.float32)

    done = native.Decoder().render(
        [content], np.array([numbers(whole)], np.int32), rows, layout=Layout.FLOAT_PLANES, max_pixels=1 << 20
    )

    assert done == b"\2"
    assert len(np.unique(values)) == 256
    assert np.array_equal(rows[0], torch.div(torch.from_numpy(values.transpose(2, 0, 1)), 255).numpy())


@pytest.mark.parametrize("width", [1, 7, 8, 9, 31])
@pytest.mark.parametrize("normalized", [False, True])
def test_every_memory_layout_holds_the_same_image(width: int, normalized: bool):
    view = View((3, 5, 50, 70), (20, width), None, True)
    table = np.random.default_rng(0).random((3, 256), np.float32) if normalized else None
    expected = by_kernel(PHOTO, view)
    assert expected is not None
    floats = np.stack([table[c][expected[c]] for c in range(3)]) if table is not None else expected / np.float32(255)

    for layout in Layout:
        planes = layout in (Layout.FLOAT_PLANES, Layout.BYTE_PLANES)
        shape = (1, 3, 20, width) if planes else (1, 20, width, 3)
        rows = np.zeros(shape, np.uint8 if layout >= Layout.BYTE_PLANES else np.float32)
        native.Decoder().render(
            [PHOTO], np.array([numbers(view)], np.int32), rows, layout=layout, table=table, max_pixels=1 << 20
        )
        image = rows[0] if planes else rows[0].transpose(2, 0, 1)
        assert np.array_equal(image, expected if layout >= Layout.BYTE_PLANES else floats)


def test_rendering_several_images_fills_their_rows_and_returns_the_outcomes():
    view = View((0, 0, 60, 90), (16, 16), None, False)
    png = encoded(picture("RGB"), "PNG")
    rows = np.full((5, 3, 16, 16), 7, np.uint8)

    done = native.Decoder().render(
        [PHOTO, None, png, memoryview(b"x" + PHOTO)[1:]],
        np.array([numbers(view)] * 4, np.int32),
        rows,
        layout=Layout.BYTE_PLANES,
        max_pixels=1 << 20,
    )

    assert done == b"\2\0\0\2"
    assert np.array_equal(rows[0], by_kernel(PHOTO, view)) and np.array_equal(rows[3], rows[0])
    assert (rows[[1, 2, 4]] == 7).all()


@pytest.mark.parametrize("quality", [100, 30])
@pytest.mark.parametrize("kind", ["checkers", "noise", "flat"])
def test_the_longest_huffman_codes_and_values_are_decoded_as_by_libjpeg_turbo(kind: str, quality: int):
    if kind == "checkers":  # black and white blocks, and blocks with single pixels, have the largest coefficients
        y, x = np.mgrid[:64, :96]
        values = np.where(y < 32, (y // 8 + x // 8) % 2, (y + x) % 2)[..., None].repeat(3, 2) * 255
    else:
        values = np.random.default_rng(1).integers(0, 256 if kind == "noise" else 2, (64, 96, 3))
    content = encoded(Image.fromarray(values.astype(np.uint8)), "JPEG", quality=quality, subsampling=0)
    whole, part = View((0, 0, 64, 96), (64, 96), None, False), View((16, 40, 20, 20), (20, 20), None, False)

    for view in (whole, part):
        rendered = by_kernel(content, view)
        assert rendered is not None
        assert np.array_equal(rendered, by_python(content, view))


def test_the_kernel_s_huffman_decoder_is_used_unless_a_jpeg_has_several_scans():
    view = np.array([numbers(View((0, 0, 60, 90), (60, 90), None, False))] * 2, np.int32)
    progressive = encoded(picture("RGB", 60, 90), "JPEG", progressive=True)
    rows = np.empty((2, 3, 60, 90), np.uint8)

    def done(portable: bool) -> bytes:
        decoder = native.Decoder(portable=portable)
        return decoder.render([PHOTO, progressive], view, rows, layout=Layout.BYTE_PLANES, max_pixels=1 << 20)

    assert done(portable=False) == b"\2\1"
    assert done(portable=True) == b"\1\1"


DECLINED = {
    "png": encoded(picture("RGB"), "PNG"),
    "cmyk": encoded(picture("CMYK"), "JPEG"),
    "rgb": encoded(picture("RGB"), "JPEG", keep_rgb=True),
    "empty": b"",
    "soi": b"\xff\xd8\xff",
    "header": PHOTO[:300],
}


@pytest.mark.parametrize("name", DECLINED)
def test_files_that_are_not_plain_jpegs_are_declined(name: str):
    assert by_kernel(DECLINED[name], View((0, 0, 37, 53), (8, 8), None, False)) is None


OUTSIDE = [
    View((0, 0, 61, 90), (8, 8), None, False),
    View((1, 0, 60, 90), (8, 8), None, False),
    View((-1, 0, 60, 90), (8, 8), None, False),
    View((0, 0, 60, 0), (8, 8), None, False),
    View((0, 2**31 - 1, 60, 2**31 - 1), (8, 8), None, False),
    View((0, 0, 60, 90), (8, 0), (0, 0, 8, 8), False),
    View((0, 0, 60, 90), (8, 8), (1, 0, 8, 8), False),
    View((0, 0, 60, 90), (8, 8), (0, -1, 8, 8), False),
    View((0, 0, 60, 90), (2**31 - 1, 2**31 - 1), (0, 0, 8, 8), False),
]


@pytest.mark.parametrize("view", OUTSIDE)
def test_a_view_that_does_not_lie_within_the_image_is_declined(view: View):
    assert by_kernel(PHOTO, view) is None


def test_an_invalid_factor_is_declined():
    assert by_kernel(PHOTO, View((0, 0, 60, 90), (8, 8), None, False), factor=3) is None


def test_an_image_with_too_many_pixels_is_declined_before_memory_is_allocated():
    at = PHOTO.index(b"\xff\xc0") + 5
    bomb = PHOTO[:at] + (65500).to_bytes(2, "big") * 2 + PHOTO[at + 4 :]
    view = View((0, 0, 65500, 65500), (8, 8), None, False)

    assert by_kernel(bomb, view) is None
    rows, some = (
        np.zeros((1, 3, 8, 8), np.uint8),
        np.array([numbers(View((0, 0, 60, 90), (8, 8), None, False))], np.int32),
    )
    assert native.Decoder().render([PHOTO], some, rows, layout=Layout.BYTE_PLANES, max_pixels=60 * 90) == b"\2"
    assert native.Decoder().render([PHOTO], some, rows, layout=Layout.BYTE_PLANES, max_pixels=60 * 90 - 1) == b"\0"


def test_arrays_of_wrong_sizes_are_refused():
    some = np.array([numbers(View((0, 0, 60, 90), (8, 8), None, False))] * 2, np.int32)
    rows = np.zeros((2, 3, 8, 8), np.float32)

    for views_, rows_, layout in (
        (some, rows[:1], Layout.FLOAT_PLANES),
        (some[:1], rows, Layout.FLOAT_PLANES),
        (some, rows, Layout.BYTE_PLANES),
        (some, rows[:, :2], Layout.FLOAT_PLANES),
        (some.astype(np.int64), rows, Layout.FLOAT_PLANES),
    ):
        with pytest.raises(ValueError):
            native.Decoder().render([PHOTO, PHOTO], views_, rows_, layout=layout, max_pixels=1 << 20)
    with pytest.raises(ValueError):
        table = np.zeros((3, 255), np.float32)
        native.Decoder().render([PHOTO, PHOTO], some, rows, layout=Layout.FLOAT_PLANES, table=table, max_pixels=1 << 20)


def test_a_decoder_can_be_reused_but_only_by_one_thread_at_a_time():
    view = np.array([numbers(View((0, 0, 60, 90), (30, 40), None, False))] * 200, np.int32)
    rows, decoder = np.empty((200, 3, 30, 40), np.uint8), native.Decoder()

    def render() -> bytes | None:
        try:
            return decoder.render([PHOTO] * 200, view, rows, layout=Layout.BYTE_PLANES, max_pixels=1 << 20)
        except ValueError as error:
            assert "two threads cannot use one decoder" in str(error)
            return None

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: render(), range(40)))

    assert render() == b"\2" * 200
    assert set(results) <= {None, b"\2" * 200}
    assert np.array_equal(rows[199], by_kernel(PHOTO, View((0, 0, 60, 90), (30, 40), None, False)))


def as_python(content: bytes, view: View, *, undamaged: bytes | None = None) -> bool:
    """Whether the kernel rendered the view. If so, check that its pixels equal those of the Python path.

    Args:
        undamaged: the tiled file before it was damaged; its pixels are expected if Python refuses the damaged file.
    """
    rendered = by_kernel(content, view)
    if rendered is None:
        return False
    try:
        expected = by_python(content, view)
    except DecodeError as error:
        if undamaged is None:
            raise AssertionError("the kernel rendered what the Python path refuses") from error
        expected = by_python(undamaged, view)
    assert np.array_equal(rendered, expected)
    return True


CORNERS = [View((0, 0, 20, 20), (9, 9), None, False), View((30, 50, 20, 30), (9, 9), None, True)]
KINDS = {
    "plain": {},
    "restarts": {"restart_marker_blocks": 2},
    "restart-rows": {"restart_marker_rows": 1, "subsampling": 2},
    "progressive": {"progressive": True},
}


@pytest.mark.parametrize("view", CORNERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_jpeg_is_rendered_as_by_python_or_declined(kind: str, view: View):
    content = encoded(picture("RGB", 60, 90), "JPEG", **KINDS[kind])

    assert as_python(content, view)
    for size in range(0, len(content), 5):
        as_python(content[:size], view)
        as_python(content[:size] + b"\xff\xd9", view)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's of damaged metadata
@settings(max_examples=500)
@given(data=st.data())
def test_a_damaged_jpeg_is_rendered_as_by_python_or_declined(data: st.DataObject):
    kind, view = data.draw(st.sampled_from(sorted(KINDS))), data.draw(st.sampled_from(CORNERS))
    content = bytearray(encoded(picture("RGB", 60, 90), "JPEG", **KINDS[kind]))
    places = st.integers(2, len(content) - 1) | st.integers(2, 200)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255) | st.just(255)), max_size=4)):
        content[place] = value

    try:
        pixels = decode_image(bytes(content))
    except DecodeError:
        pixels = None
    if pixels is None:
        assert by_kernel(bytes(content), view) is None
    elif pixels.shape == (60, 90, 3):
        as_python(bytes(content), view)
