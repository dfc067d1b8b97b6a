"""The preview of a transform shows the pixels that training gets."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mps_shards import ShardDataset, classify, segment
from mps_shards.inspect.gallery import Gallery, shown
from mps_shards.inspect.overlay import overlaid
from mps_shards.inspect.survey import open_shard_set
from tests.support.sets import shard_set
from tests.support.things import segmentation_set


def previewed(shards: Any, transform: Any) -> list[list[Any]]:
    """Return the augmented pictures of each sample, in the order of the set."""
    opened = open_shard_set(str(shards))
    try:
        gallery = Gallery(opened, size=64, transform=transform, times=1, seed=0)
        gallery.fill(len(opened))
    finally:
        opened.close()
    order = np.random.default_rng(0).permutation(len(gallery.tiles)).tolist()
    return [gallery.tiles[order.index(number)].pictures for number in range(len(order))]


@pytest.mark.parametrize(
    "transform",
    [
        classify.train(8, jitter=0.4),
        v2.Compose([v2.RandomRotation(40), v2.RandomCrop(8)]),
        lambda image: image[:, : torch.randint(4, 9, (1,)), :8],
    ],
)
def test_a_preview_has_the_pixels_of_training(transform: Any):
    shards = shard_set([7, 2])

    pictures = previewed(shards, transform)

    for (image, _), (*_, seen) in zip(
        ShardDataset(shards, batch_size=None, transform=transform), pictures, strict=True
    ):
        assert torch.equal((image * 255).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(seen))


def test_a_preview_has_the_label_maps_of_training_padding_included():
    transform = segment.train(120, scale=(0.5, 0.7))
    data = ShardDataset(segmentation_set(), batch_size=None, transform=transform)

    pictures = previewed(segmentation_set(), transform)

    for (image, label_map), (*_, seen) in zip(data, pictures, strict=True):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        assert np.array_equal(seen, overlaid(pixels, label_map.numpy(), data.classes, data.ignore_index))
        assert data.ignore_index in label_map


def test_normalized_images_are_shown_in_the_full_range():
    image = torch.linspace(-2, 2, 48).reshape(3, 4, 4)

    pixels = shown(image)

    assert (pixels.dtype, pixels.shape, pixels.min(), pixels.max()) == (np.uint8, (4, 4, 3), 0, 255)


def test_floats_from_0_to_1_are_shown_as_they_are():
    assert np.array_equal(shown(torch.full((1, 2, 2), 0.2)), np.full((2, 2, 3), 51, np.uint8))
