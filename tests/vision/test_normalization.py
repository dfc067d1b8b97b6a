"""Images are normalized by the name of a convention, or by three means and standard deviations."""

import pytest
import torch
from torchvision import transforms as v1
from torchvision.models import ResNet18_Weights
from torchvision.transforms.functional import normalize

from mps_shards import DeviceLoader, ShardDataset, classify
from mps_shards.errors import ConfigError
from mps_shards.vision.normalization import NORMALIZATIONS
from tests.support.sets import shard_set


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_the_name_of_a_convention_gives_mean_and_standard_deviation(name: str):
    plain, _ = next(iter(ShardDataset(shard_set([4]), batch_size=4)))

    images, _ = next(iter(ShardDataset(shard_set([4]), batch_size=4, normalize=name)))

    assert torch.equal(images, normalize(plain, *map(list, NORMALIZATIONS[name])))


def test_imagenet_s_mean_and_deviation_equal_those_of_torchvision_s_weights():
    preset = ResNet18_Weights.DEFAULT.transforms()

    assert NORMALIZATIONS["imagenet"] == (tuple(preset.mean), tuple(preset.std))


@pytest.mark.parametrize(
    "wrong", ["x", 0.5, (0.5, 0.5), ((0.5,) * 3, (0.0,) * 3), ((0.5,) * 4, (1.0,) * 4), ("ab", "cd")]
)
def test_the_error_about_another_normalization_names_what_is_accepted(wrong):
    with pytest.raises(ConfigError, match="normalize must be 'imagenet', 'inception', 'clip', or three means"):
        ShardDataset(shard_set([4]), batch_size=4, normalize=wrong)


@pytest.mark.parametrize("threads", [0, 1])
def test_normalizing_images_that_the_transform_made_float_is_an_error(threads: int):
    data = ShardDataset(shard_set([4]), batch_size=4, transform=v1.ToTensor(), normalize="imagenet")

    with pytest.raises(ConfigError, match=r"normalize= applies to uint8 images, .* leave out ToTensor"):
        next(iter(DeviceLoader(data, device="cpu", num_threads=threads) if threads else data))


def test_each_view_of_an_image_is_normalized():
    transform = (classify.train(8), classify.evaluate(4))
    plain, _ = next(iter(ShardDataset(shard_set([4]), batch_size=4, transform=transform)))

    images, _ = next(iter(ShardDataset(shard_set([4]), batch_size=4, transform=transform, normalize="imagenet")))

    for image, view in zip(images, plain, strict=True):
        assert torch.equal(image, normalize(view, *map(list, NORMALIZATIONS["imagenet"])))
