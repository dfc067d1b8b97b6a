"""Views of images that are decoded smaller, or of which a small crop is shown."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from mps_shards.vision.views import HAS_UINT8_KERNELS, View, seen_pixels


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


@pytest.mark.skipif(not HAS_UINT8_KERNELS, reason="torch has no uint8 kernels for this processor")
@pytest.mark.parametrize("at", range(12))
def test_a_small_crop_of_a_resized_image_has_torchvision_s_pixels(at: int):
    image = np.random.default_rng(at).integers(0, 256, (500, 23, 3), dtype=np.uint8)
    whole = functional.resize(torch.from_numpy(image).permute(2, 0, 1), [250, 12], antialias=True)

    crop = seen_pixels(image, View((0, 0, 500, 23), (250, 12), (0, at, 250, 1), False), "bilinear")

    assert torch.equal(crop, whole[:, :, at : at + 1])
