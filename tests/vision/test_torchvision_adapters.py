"""Transforms of torchvision, v1 and v2, give the pixels that torchvision computes for the same draws."""

import warnings
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from mps_shards import classify
from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.keyed_draws import keyed_draws
from mps_shards.vision.transforms.sample_transform import ThreadTransform, recognise
from tests.support.images import pixels
from tests.support.transforms import IMAGE, LABEL_MAP, applied, rng


@pytest.mark.parametrize("module", [v1, v2])
def test_a_compose_without_to_tensor_gives_the_same_pixels(module):
    image, target = applied(module.Compose([module.Resize((32, 32)), module.RandomHorizontalFlip()]))

    assert (image.dtype, image.shape, target) == (torch.uint8, (3, 32, 32), 3)


def test_a_v1_pipeline_gives_what_image_folder_gives_for_the_same_draws():
    transform = v1.Compose([v1.RandomResizedCrop(24), v1.RandomHorizontalFlip(), v1.ColorJitter(0.4), v1.ToTensor()])

    for position in range(10):
        image, _ = applied(transform, position=position)

        with keyed_draws(rng(position)):
            assert torch.equal(image, transform(Image.fromarray(pixels(60, 80))))


V2_FLOAT = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])]


@pytest.mark.parametrize(
    "steps",
    [
        [v2.RandomRotation(30), v2.ColorJitter(0.4, hue=0.1), v2.GaussianNoise(), v2.RandomErasing(1.0)],
        [v2.RandomPhotometricDistort(), v2.RandomChoice([v2.RandomInvert(), v2.RandomAutocontrast()])],
        [v2.RandAugment()],
        [v2.AugMix(), v2.RandomApply([v2.Grayscale(3)]), v2.RandomOrder([v2.Identity(), v2.RandomVerticalFlip()])],
        [v2.ScaleJitter((48, 48)), v2.RandomCrop(24, pad_if_needed=True), v2.ElasticTransform()],
    ],
    ids=lambda steps: type(steps[0]).__name__,
)
def test_a_v2_pipeline_gives_torchvision_s_pixels_for_the_same_draws(steps):
    transform = v2.Compose([v2.ToImage(), *steps, v2.ToDtype(torch.float32, scale=True)])

    for position in range(10):
        image, _ = applied(transform, position=position)

        with keyed_draws(rng(position)):
            assert torch.equal(image, transform(tv_tensors.Image(IMAGE)))
    assert type(image) is torch.Tensor


def test_a_v2_pipeline_applies_the_same_geometry_to_image_and_label_map():
    transform = v2.Compose([v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.RandomRotation(30), *V2_FLOAT])

    for position in range(10):
        image, label_map = applied(transform, LABEL_MAP, position=position)

        with keyed_draws(rng(position)):
            expected = transform(tv_tensors.Image(IMAGE), tv_tensors.Mask(LABEL_MAP))
        assert torch.equal(image, expected[0]) and torch.equal(label_map, expected[1])
        assert type(label_map) is torch.Tensor and label_map.dtype == torch.uint8


def crop_of(view) -> Any:
    return v2.functional.resized_crop(IMAGE, *view.region, list(view.resized), antialias=True)


@pytest.mark.parametrize("rest", [[], V2_FLOAT, [v2.ColorJitter(0.3), *V2_FLOAT]])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_planned_random_crop_has_torchvision_s_pixels(rest, flip):
    transform = v2.Compose([v2.ToImage(), v2.RandomResizedCrop((24, 32)), v2.RandomHorizontalFlip(flip), *rest])
    thread = ThreadTransform(recognise(transform, task="classification"), seed=0)

    for position in range(10):
        (plan,) = thread.plan((60, 80), 0, position)
        image = thread.show(pixels(60, 80), [plan])

        generator = rng(position)
        assert plan.view == recognise(transform, task=None).planned[0].geometry.plan(60, 80, generator)
        expected = crop_of(plan.view)
        expected = v2.functional.horizontal_flip(expected) if flip else expected
        with keyed_draws(generator):
            expected = v2.Compose(rest)(expected) if rest else expected
        assert torch.equal(image, expected)
        # as for a PNG, whose size is known only after decoding
        assert torch.equal(image, thread(IMAGE, 0, 0, position)[0])


@pytest.mark.parametrize(
    "steps",
    [
        [v2.Resize(40), v2.CenterCrop(32)],
        [v2.Resize((30, 50))],
        [v2.Resize(40, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop((16, 32)), *V2_FLOAT],
        [v2.PILToTensor(), v2.Resize([40])],
        [v2.Resize(20), v2.CenterCrop(32)],  # a crop that pads
        [v2.Resize(20, max_size=21)],
        [v2.CenterCrop(32), v2.Resize(40)],
        [v2.Resize((30, 50), antialias=False)],
    ],
    ids=str,
)
@pytest.mark.parametrize("sides", [(60, 80), (80, 60), (41, 40), (33, 100)])
def test_resize_and_centre_crop_have_torchvision_s_pixels(steps, sides):
    transform, picture = v2.Compose(steps), torch.from_numpy(pixels(*sides)).permute(2, 0, 1)
    thread = ThreadTransform(recognise(transform, task="classification"), seed=0)

    image, _ = thread(picture, 0, 0, 0)

    assert torch.equal(image, transform(picture))
    if thread.plans:
        assert torch.equal(image, thread.show(pixels(*sides), thread.plan(sides, 0, 0)))


@pytest.mark.parametrize(
    ("transform", "planned"),
    [
        (v2.RandomResizedCrop(8), True),
        (v2.Compose([v2.ToImage(), v2.Resize(9), v2.CenterCrop(8), v2.ToDtype(torch.float32)]), True),
        (v2.Compose([v2.RandomCrop(8)]), False),
        (v2.Compose([v2.RandomHorizontalFlip(), v2.RandomResizedCrop(8)]), False),
        (v2.Compose([v2.RandomResizedCrop(8, antialias=False)]), False),
        (classify.train(8, jitter=0.3), True),
        ((classify.train(8), v2.Resize(9)), True),
        ((classify.train(8), v2.RandomCrop(9)), False),
    ],
)
def test_pipelines_whose_view_follows_from_the_size_of_the_image_are_recognised(transform, planned):
    assert bool(recognise(transform, task="classification").planned) == planned


def test_v2_s_to_tensor_receives_a_pil_image():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision warns that ToTensor is deprecated
        transform = v2.Compose([v2.Resize(30), v2.ToTensor(), v2.Normalize([0.5] * 3, [0.5] * 3)])

    image, _ = applied(transform)

    assert torch.equal(image, transform(Image.fromarray(pixels(60, 80))))


def test_a_preset_of_torchvision_s_weights_works():
    from torchvision.models import ResNet18_Weights

    image, _ = applied(ResNet18_Weights.DEFAULT.transforms())

    assert (image.dtype, image.shape) == (torch.float32, (3, 224, 224))


@pytest.mark.parametrize("transform", [v1.RandomHorizontalFlip(), v1.Compose([v1.ToTensor(), v1.RandomCrop(8)])])
def test_a_v1_pipeline_that_moves_pixels_is_refused_for_label_maps(transform):
    with pytest.raises(ConfigError, match=r"label map would not fit it after Random.*; use torchvision.transforms.v2"):
        recognise(transform, task="segmentation")


def test_a_v1_pipeline_that_changes_colours_does_not_change_label_maps():
    image, label_map = applied(v1.Compose([v1.ColorJitter(0.5), v1.ToTensor()]), LABEL_MAP)

    assert image.shape[1:] == label_map.shape and torch.equal(label_map, LABEL_MAP)
