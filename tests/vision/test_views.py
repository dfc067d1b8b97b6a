"""Views as data: what of an image is seen after it was decoded smaller."""

from hypothesis import given
from hypothesis import strategies as st

from mps_shards.vision.views import View


@given(data=st.data())
def test_a_region_keeps_a_pixel_at_least_however_small_the_image_is_decoded(data: st.DataObject):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    tall, wide = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - tall)), data.draw(st.integers(0, width - wide))
    view = View((top, left, tall, wide), (1, 1), None, False)
    factor = view.factor()
    decoded = -(-height // factor), -(-width // factor)

    first, start, rows, columns = view.shrunk(*decoded, factor).region

    assert rows >= 1 and columns >= 1
    assert first >= 0 and first + rows <= decoded[0]
    assert start >= 0 and start + columns <= decoded[1]
