"""Segmentation transforms move image and mask together, and make no new labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms import segment

IGNORED = 255


def coordinates(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an image and a mask whose values tell the position of each pixel.

    Red is 2 * row and green is 2 * column. The mask holds row * 1000 + column + 1, so 0 is no position.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows * 2, columns * 2, torch.full_like(rows, 255)], dim=-1).to(torch.uint8)
    return image.permute(2, 0, 1), (rows * 1000 + columns + 1).to(torch.int32)


def black(height: int, width: int) -> torch.Tensor:
    """Return a black image in the memory layout of a decoded one, channels last."""
    return torch.zeros(height, width, 3, dtype=torch.uint8).permute(2, 0, 1)


def apply(transform, image: torch.Tensor, mask: torch.Tensor, position: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return transform(image, mask, KeyedRandom(seed=0).at(0, position))


def transforms(size: int, scale: tuple[float, float], flip: float) -> list:
    return [segment.train(size, scale=scale, flip=flip, ignore_index=-1), segment.evaluate(size, ignore_index=-1)]


sides = st.integers(1, 120)


@settings(max_examples=100)
@given(
    height=sides,
    width=sides,
    size=st.integers(1, 150),
    low=st.floats(0.3, 2),
    wider=st.floats(1, 2),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    position=st.integers(0, 1000),
)
def test_image_and_mask_get_the_same_geometry(height, width, size, low, wider, flip, position):
    for transform in transforms(size, (low, low * wider), flip):
        image, mask = apply(transform, *coordinates(height, width), position)

        assert image.shape == (3, size, size) and mask.shape == (size, size)
        padded = mask == -1
        assert torch.equal(padded, image[2] == 0)  # the same pixels are padding in both, black in the image
        places = mask[~padded].to(torch.float64) - 1
        rows, columns = places // 1000, places % 1000
        # Interpolation mixes neighbouring pixels, and the nearest pixel may be off by one. A pixel is two gray levels.
        scale = max(1.0, max(height, width) / size if isinstance(transform, segment.evaluate) else 1 / low)
        red, green = (image[channel][~padded].to(torch.float64) / 2 for channel in (0, 1))
        assert not len(places) or (rows - red).abs().max() <= 2 * scale + 1
        assert not len(places) or (columns - green).abs().max() <= 2 * scale + 1


@settings(max_examples=60)
@given(
    height=sides,
    width=sides,
    size=st.integers(1, 150),
    ids=st.lists(st.integers(0, 254), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 1000),
)
def test_a_transformed_label_map_has_no_new_labels(height, width, size, ids, seed):
    labels = np.random.default_rng(seed).choice(ids, (height, width)).astype(np.uint8)
    mask = torch.from_numpy(labels)

    for transform in (segment.train(size), segment.evaluate(size)):
        _, out = apply(transform, black(height, width), mask, seed)

        assert set(out.unique().tolist()) <= set(labels.flat) | {IGNORED}


def test_without_scaling_the_crop_is_a_slice_of_image_and_mask():
    image, mask = coordinates(50, 60)

    out, labels = apply(segment.train(32, scale=(1.0, 1.0), flip=0.0), image, mask)

    top, left = divmod(int(labels[0, 0]) - 1, 1000)
    assert torch.equal(labels, mask[top : top + 32, left : left + 32])
    assert torch.equal(out, image[:, top : top + 32, left : left + 32])


def test_random_crops_of_segment_train_are_at_every_position():
    image, mask = coordinates(12, 14)
    train = segment.train(10, scale=(1.0, 1.0), flip=0.0)

    corners = {int(apply(train, image, mask, position)[1][0, 0]) - 1 for position in range(300)}

    assert corners == {row * 1000 + column for row in range(3) for column in range(5)}


def test_a_flip_mirrors_image_and_mask():
    image, mask = coordinates(20, 20)

    out, labels = apply(segment.train(20, scale=(1.0, 1.0), flip=1.0), image, mask)

    assert torch.equal(labels, mask.flip(-1))
    assert torch.equal(out, image.flip(-1))


def test_segment_evaluate_shows_the_whole_image_and_pads_right_and_below():
    image, mask = coordinates(50, 100)

    out, labels = apply(segment.evaluate(100, ignore_index=-1), image, mask)

    assert torch.equal(labels[:50], mask) and torch.equal(out[:, :50], image)
    assert (labels[50:] == -1).all() and (out[:, 50:] == 0).all()


@pytest.mark.parametrize("ignored", [-1, -100, 256, 65535])
def test_padding_of_an_8_bit_mask_is_the_ignore_index(ignored: int):
    image, mask = black(4, 4), torch.ones(4, 4, dtype=torch.uint8)

    for transform in (segment.train(16, scale=(1.0, 1.0), ignore_index=ignored), segment.evaluate(3)):
        _, out = apply(transform, image, mask)

        assert set(out.unique().tolist()) <= {1, ignored}


def test_16_bit_labels_are_kept_by_segment_transforms():
    mask = torch.tensor([[0, 65535], [40000, 257]], dtype=torch.int32).repeat_interleave(8, 0).repeat_interleave(8, 1)

    _, out = apply(segment.evaluate(32), black(16, 16), mask)

    assert set(out.unique().tolist()) == {0, 65535, 40000, 257}


def test_a_mask_of_another_size_is_an_error_with_both_sizes():
    image, mask = black(8, 9), torch.zeros(9, 8, dtype=torch.uint8)

    with pytest.raises(DecodeError, match="the label map is 8 x 9 pixels, but its image is 9 x 8 pixels"):
        apply(segment.train(4), image, mask)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: segment.train(0),
        lambda: segment.train(8, scale=(2.0, 1.0)),
        lambda: segment.train(8, scale=(0.0, 1.0)),
        lambda: segment.train(8, flip=-0.1),
        lambda: segment.evaluate(0),
    ],
)
def test_an_invalid_argument_of_a_transform_is_an_error_at_construction(wrong):
    with pytest.raises(ConfigError):
        wrong()


def test_segment_evaluate_keeps_the_stored_size_or_scales_it():
    image, mask = coordinates(50, 100)

    stored, labels = apply(segment.evaluate(), image, mask)
    doubled, larger = apply(segment.evaluate(scale=2.0), image, mask)

    assert torch.equal(stored, image) and torch.equal(labels, mask)
    assert doubled.shape == (3, 100, 200) and torch.equal(larger[::2, ::2], mask)


def test_colour_changes_do_not_change_the_label_map():
    image, mask = coordinates(40, 50)

    plain, labels = apply(segment.train(32), image, mask)
    coloured, same = apply(segment.train(32, jitter=0.5, grayscale=1.0, blur=1.0), image, mask)

    assert torch.equal(labels, same) and not torch.equal(plain, coloured)
