"""Views of images that are decoded smaller."""

from hypothesis import given
from hypothesis import strategies as st

from mps_shards.vision.views import View


@given(data=st.data())
def test_a_region_has_at_least_one_pixel_in_an_image_that_is_decoded_smaller(data: st.DataObject):
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
