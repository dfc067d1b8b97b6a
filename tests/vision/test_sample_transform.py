"""Transforms of other libraries are recognised, give the pixels that those libraries compute, and are checked."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from mps_shards import ShardDataset, classify, segment
from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.sample_transform import recognise
from tests.support.sets import foreign_tars, shard_set
from tests.support.things import segmentation_set
from tests.support.transforms import IMAGE, LABEL_MAP, applied, rng

# Plain callables


class Forward(nn.Module):
    def forward(self, image: torch.Tensor, mask: Any) -> Any:
        return image + 1, mask


def with_size(image: torch.Tensor, size: int = 224) -> torch.Tensor:
    return image[:, : size // 56]


def with_optional_target(image: torch.Tensor, target: Any = None) -> Any:
    return image, target + 1


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (lambda image: image.flip(-1), (IMAGE.flip(-1), 3)),
        (lambda image, target: (image.flip(-1), target + 1), (IMAGE.flip(-1), 4)),
        (lambda image, target, rng: (image + 1, rng.random()), (IMAGE + 1, rng().random())),
        (with_size, (IMAGE[:, :4], 3)),
        (with_optional_target, (IMAGE, 4)),
        (partial(lambda shift, image: image + shift, 2), (IMAGE + 2, 3)),
        (Forward(), (IMAGE + 1, 3)),
        (nn.Sequential(v2.CenterCrop(8)), (IMAGE[:, 26:34, 36:44], 3)),
        (None, (IMAGE, 3)),
    ],
)
def test_a_callable_receives_as_many_arguments_as_it_accepts(transform, expected):
    image, target = applied(transform)

    assert torch.equal(image, expected[0]) and target == expected[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: None, r"takes \(image\), \(image, target\) or \(image, target, rng\), but this one takes \(\)"),
        (lambda a, b, c, d: None, r"but this one takes \(a, b, c, d\)"),
        (lambda image, *, target: None, r"but this one takes \(image, \*, target\)"),
        ("train", "or a function .*, not 'train'"),
        (classify.train, r"call it first, as in classify.train\(224\)"),
        ((), "transform is an empty tuple"),
    ],
)
def test_an_object_that_is_not_a_transform_is_an_error_at_construction(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ShardDataset(shard_set([3]), batch_size=1, transform=wrong)


def test_a_random_generator_inside_a_function_gives_a_warning():
    generator = np.random.default_rng(0)

    with pytest.warns(UserWarning, match=r"holds random generators, generator \(Generator\), .* third argument"):
        recognise(lambda image: image * generator.random(), task="classification")


# albumentations


@pytest.fixture
def albumentations() -> Any:
    return pytest.importorskip("albumentations", reason="albumentations is not installed (make install does)")


def test_albumentations_receives_image_and_label_map_by_name(albumentations):
    transform = albumentations.Compose([albumentations.HorizontalFlip(p=1), albumentations.CenterCrop(20, 30)])

    image, label_map = applied(transform, LABEL_MAP)

    assert torch.equal(image, IMAGE[:, 20:40, 25:55].flip(-1))
    assert torch.equal(label_map, LABEL_MAP[20:40, 25:55].flip(-1))


def test_a_single_albumentations_transform_and_float_output_work(albumentations):
    image, target = applied(albumentations.Normalize((0.5,) * 3, (0.5,) * 3))

    assert (image.dtype, image.shape, target) == (torch.float32, (3, 60, 80), 3)


def test_albumentations_tensors_stay_tensors(albumentations):
    from albumentations.pytorch import ToTensorV2

    image, label_map = applied(albumentations.Compose([ToTensorV2()]), LABEL_MAP)

    assert torch.equal(image, IMAGE) and torch.equal(label_map, LABEL_MAP)


def test_sixteen_bit_label_maps_survive_albumentations(albumentations):
    wide = LABEL_MAP.to(torch.int32) * 20_000

    _, label_map = applied(albumentations.Compose([albumentations.RandomCrop(20, 30)]), wide)

    assert label_map.dtype == torch.int32 and set(label_map.unique().tolist()) <= set(wide.unique().tolist())


def test_an_albumentations_pipeline_inside_a_function_gives_a_warning(albumentations):
    pipeline = albumentations.Compose([albumentations.HorizontalFlip()])

    with pytest.warns(UserWarning, match=r"pipeline \(Compose of albumentations: pass it directly as transform=\)"):
        recognise(lambda image: pipeline(image=image.numpy())["image"], task="classification")


# Output


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            lambda image: image.permute(1, 2, 0),
            r"shape \[60, 80, 3\], which is \[height, width, channels\]; expected",
        ),
        (
            lambda image: image.double(),
            r"an image of float64; expected a tensor .* or float32: call .float\(\)",
        ),
        (lambda image: image.long(), r"an image of int64; .*: call .to\(torch.uint8\)"),
        (lambda image: image.numpy(), r"a NumPy array \(uint8, shape \[3, 60, 80\]\) as image; .*from_numpy"),
        (lambda image: None, "a value of type NoneType as image"),
        (lambda image, target: image, r"with 2 arguments must return \(image, target\); .* type Tensor"),
    ],
)
def test_the_error_about_output_that_no_batch_can_hold_says_what_is_expected(transform, message):
    with pytest.raises(ConfigError, match=message):
        applied(transform)


def test_image_and_label_map_of_different_sizes_are_an_error():
    with pytest.raises(ConfigError, match=r"an image of 80 x 40 pixels and a label map of 80 x 60; .* segment.train"):
        applied(lambda image: image[:, :40], LABEL_MAP)


def test_classify_on_label_maps_and_segment_on_labels_are_errors_at_construction():
    with pytest.raises(ConfigError, match=r"the set has label maps, .*: use segment"):
        ShardDataset(segmentation_set(), batch_size=2, transform=classify.train(8))
    with pytest.raises(ConfigError, match=r"segment transforms need label maps, .* for classification: use classify"):
        ShardDataset(shard_set([3]), batch_size=2, transform=segment.train(8))


def test_a_transform_for_another_task_is_an_error_at_the_first_sample_of_foreign_tars():
    with pytest.raises(ConfigError, match="segment transforms need a label map as target, not 0: use classify"):
        next(iter(ShardDataset(foreign_tars([3]), batch_size=2, transform=segment.train(8))))
    with pytest.raises(ConfigError, match=r"would leave the label map as it is: use segment\.train"):
        applied(classify.train(8), LABEL_MAP, task=None)


# The set's ignore_index


def test_padding_has_the_ignore_index_of_the_set():
    for transform in (segment.train(200, scale=(0.5, 0.5)), segment.evaluate(100)):
        _, label_map = applied(transform, torch.zeros_like(LABEL_MAP), ignore_index=11)

        assert set(label_map.unique().tolist()) == {0, 11}


def test_an_ignore_index_that_differs_from_that_of_the_set_is_an_error():
    with pytest.raises(ConfigError, match="pads with ignore_index=255, but the ignore_index of the set is 11"):
        recognise(segment.train(8, ignore_index=255), task="segmentation", ignore_index=11)

    recognise(segment.evaluate(8, ignore_index=11), task="segmentation", ignore_index=11)


def test_an_ignore_index_that_is_a_class_of_the_set_is_an_error():
    with pytest.raises(ConfigError, match="padding with 255 would be class 255 of the set"):
        recognise(segment.train(8), task="segmentation", classes=256)


# Several views


def test_several_views_differ_and_the_first_equals_that_of_a_single_view():
    one = applied(classify.train(16), position=4)[0]

    images, target = applied(classify.train(16), position=4, views=3)

    assert len(images) == 3 and target == 3
    assert torch.equal(images[0], one) and not torch.equal(images[0], images[1])


def test_a_tuple_of_transforms_gives_one_view_per_transform():
    images, _ = applied((classify.train(16), classify.train(8), v1.ToTensor()))

    assert [tuple(image.shape) for image in images] == [(3, 16, 16), (3, 8, 8), (3, 60, 80)]


def test_each_view_of_a_segmentation_set_has_its_label_map():
    images, label_maps = applied(segment.train(16), LABEL_MAP, views=2)

    assert len(images) == len(label_maps) == 2 and not torch.equal(*label_maps)


def test_views_are_batched_as_a_tuple():
    data = ShardDataset(shard_set([5]), batch_size=4, transform=(classify.train(8), classify.train(4)))

    (large, small), labels = next(iter(data))

    assert (large.shape, small.shape, labels.shape) == ((4, 3, 8, 8), (4, 3, 4, 4), (4,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": 2}, "views needs a transform"),
        ({"views": 0, "transform": classify.train(8)}, "views must be a whole number from 1, not 0"),
        ({"views": 2, "transform": (classify.train(8), classify.train(8))}, "give either views or a tuple"),
    ],
)
def test_an_invalid_number_of_views_is_an_error(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ShardDataset(shard_set([3]), batch_size=2, **arguments)
