"""Classification transforms: torchvision's distribution of crops, and torchvision's pixels for each crop."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from mps_shards.errors import ConfigError
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms import classify, segment
from mps_shards.vision.transforms.geometry import random_crop
from mps_shards.vision.transforms.keyed_draws import keyed_draws
from tests.support.images import pixels


def image(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(pixels(height, width)).permute(2, 0, 1)


class Fixed:
    """A generator that returns given numbers."""

    def __init__(self, *numbers: float):
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples: the largest difference of their distribution functions."""
    values = np.concatenate([one, two])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (one, two)]
    return float(np.abs(shares[0] - shares[1]).max())


DRAWS = 4000


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [
        (375, 500, (0.08, 1.0)),
        (500, 333, (0.5, 0.9)),
        (64, 64, (0.08, 1.0)),
        (40, 400, (0.08, 1.0)),
        (300, 30, (0.5, 0.9)),
    ],
)
def test_crops_are_distributed_as_torchvision_draws_them(height: int, width: int, scale: tuple[float, float]):
    ratio = (3 / 4, 4 / 3)
    train, random = classify.train(224, scale=scale), KeyedRandom(seed=1)
    torch.manual_seed(1)
    torchvision = v2.RandomResizedCrop(224, scale=scale, ratio=ratio)

    ours = np.array(
        [random_crop(height, width, train.scale, train.ratio, random.at(0, position)) for position in range(DRAWS)]
    )
    given = [torchvision.make_params([torch.empty(3, height, width, device="meta")]) for _ in range(DRAWS)]
    theirs = np.array([[params[name] for name in ("top", "left", "height", "width")] for params in given])

    # two samples of one distribution lie further apart than this once in 100,000 times
    bound = 2.47 * (2 / DRAWS) ** 0.5
    for column, name in enumerate(("top", "left", "height", "width")):
        assert distance(ours[:, column], theirs[:, column]) < bound, name
    areas = [crops[:, 2] * crops[:, 3] for crops in (ours, theirs)]
    ratios = [crops[:, 3] / crops[:, 2] for crops in (ours, theirs)]
    assert distance(*areas) < bound and distance(*ratios) < bound


def test_random_crops_are_at_every_position_equally_often():
    train, random = classify.train(8, scale=(0.25, 0.25), ratio=(1.0, 1.0)), KeyedRandom(seed=3)

    places = Counter(random_crop(6, 6, train.scale, train.ratio, random.at(0, position)) for position in range(3200))

    assert places.keys() == {(top, left, 3, 3) for top in range(4) for left in range(4)}
    # 200 are expected; the bounds are five standard deviations away
    assert all(130 < count < 270 for count in places.values())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1000), (1000, 1), (2, 3), (37, 53)])
def test_random_crops_lie_inside_the_image(height: int, width: int):
    train, random = classify.train(224), KeyedRandom(seed=0)

    for position in range(200):
        top, left, tall, wide = random_crop(height, width, train.scale, train.ratio, random.at(0, position))
        assert 0 <= top <= top + tall <= height and tall > 0
        assert 0 <= left <= left + wide <= width and wide > 0


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [(10, 1000, (0, 493, 10, 13)), (1000, 10, (493, 0, 13, 10)), (90, 100, (0, 0, 90, 100))],
)
def test_the_largest_central_crop_is_taken_if_no_random_crop_fits(
    height: int, width: int, crop: tuple[int, int, int, int]
):
    # twenty numbers for ten attempts, each with the whole area and a ratio that is too wide
    never = Fixed(*[1.0, 1.0 if height >= width else 0.0] * 10)

    assert random_crop(height, width, (1.0, 1.0), (3 / 4, 4 / 3), never) == crop  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_classify_train_gives_torchvision_s_pixels_for_the_same_crop(interpolation: str, mirrored: bool):
    train = classify.train(64, flip=float(mirrored), interpolation=interpolation)  # type: ignore[arg-type]
    whole, random = image(123, 170), KeyedRandom(seed=5)

    for position in range(20):
        top, left, height, width = random_crop(123, 170, train.scale, train.ratio, random.at(0, position))
        delivered, target = train(whole, 7, random.at(0, position))  # type: ignore[arg-type]

        reference = v2.functional.resized_crop(
            whole, top, left, height, width, [64, 64], v2.InterpolationMode(interpolation), antialias=True
        )
        assert torch.equal(delivered, v2.functional.horizontal_flip(reference) if mirrored else reference)
        assert target == 7


def test_classify_train_mirrors_half_of_the_images():
    train, random = classify.train(8, scale=(1.0, 1.0), ratio=(1.0, 1.0)), KeyedRandom(seed=2)
    ramp = torch.arange(8, dtype=torch.uint8).expand(3, 8, 8)

    mirrored = sum(int(train(ramp, 0, random.at(0, n))[0][0, 0, 0]) > 3 for n in range(1000))  # type: ignore[arg-type]

    assert 440 < mirrored < 560  # within 3.8 standard deviations


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (256, 256), (50, 49), (1000, 20)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_classify_evaluate_equals_torchvision_s_resize_and_centre_crop(height: int, width: int, interpolation: str):
    whole = image(height, width)
    reference = v2.Compose([v2.Resize(256, v2.InterpolationMode(interpolation)), v2.CenterCrop(224)])(whole)

    delivered, _ = classify.evaluate(224, interpolation=interpolation)(whole, 0, Fixed())  # type: ignore[arg-type]

    assert torch.equal(delivered, reference)


@settings(max_examples=300, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    size=st.integers(2, 240),  # torchvision fails to resize a packed image to one pixel
    more=st.integers(0, 60),
    packed=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_resizing_only_the_crop_gives_torchvision_s_pixels(sides, size: int, more: int, packed: bool, seed):
    noise = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (*sides, 3), dtype=np.uint8)).permute(2, 0, 1)
    whole = noise.contiguous() if packed else noise
    steps = v2.Compose([v2.Resize(size + more), v2.CenterCrop(size)])

    delivered, _ = classify.evaluate(size, size + more)(whole, 0, Fixed())  # type: ignore[arg-type]

    assert torch.equal(delivered, steps(whole))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: classify.train(0),
        lambda: classify.train(8, scale=(0.5, 0.1)),
        lambda: classify.train(8, scale=(0.0, 1.0)),
        lambda: classify.train(8, ratio=(2.0, 1.0)),
        lambda: classify.train(8, flip=1.5),
        lambda: classify.train(8, interpolation="lanczos"),
        lambda: classify.train(8, augment="cutout"),
        lambda: classify.train(8, augment=3),
        lambda: classify.train(8, jitter=-0.1),
        lambda: classify.train(8, jitter=(0.1, 0.1)),
        lambda: classify.train(8, jitter=(0.1, 0.1, 0.1, 0.6)),
        lambda: classify.train(8, jitter=0.1, jitter_p=1.1),
        lambda: classify.train(8, grayscale=-0.1),
        lambda: classify.train(8, blur=2),
        lambda: classify.train(8, erase=1.5),
        lambda: segment.train(8, jitter=-0.1),
        lambda: segment.evaluate(8, scale=1.0),
        lambda: segment.evaluate(scale=0.0),
        lambda: classify.evaluate(0),
        lambda: classify.evaluate(224, resize=200),
        lambda: classify.evaluate(8, interpolation="area"),
    ],
)
def test_an_invalid_argument_of_a_transform_is_an_error_at_construction(wrong):
    with pytest.raises(ConfigError):
        wrong()


@pytest.mark.parametrize(
    ("option", "reference"),
    [
        ({"augment": "randaugment"}, v2.RandAugment()),
        ({"augment": "trivialaugment"}, v2.TrivialAugmentWide()),
        ({"augment": "autoaugment"}, v2.AutoAugment()),
        ({"augment": v2.RandAugment(3, 5)}, v2.RandAugment(3, 5)),
        ({"jitter": 0.4}, v2.ColorJitter(0.4, 0.4, 0.4)),
        ({"jitter": (0.8, 0.8, 0.8, 0.2), "jitter_p": 0.8}, v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8)),
        ({"grayscale": 0.5}, v2.RandomGrayscale(0.5)),
        ({"blur": 1.0}, v2.GaussianBlur(23, (0.1, 2.0))),
        ({"erase": 0.7}, v2.RandomErasing(0.7, value=(124, 116, 104))),
    ],
    ids=str,
)
def test_colour_changes_equal_torchvision_s_for_the_same_random_numbers(option, reference):
    train, plain, random, changed = classify.train(32, **option), classify.train(32), KeyedRandom(seed=7), 0
    reference = v2.RandomApply([reference], 1.0) if "blur" in option else reference

    for position in range(20):
        delivered, _ = train(image(90, 70), 0, random.at(0, position))

        generator = random.at(0, position)
        view, _ = plain(image(90, 70), 0, generator)
        with keyed_draws(generator):
            expected = reference(view)
        assert torch.equal(delivered, expected) and delivered.dtype == torch.uint8
        changed += not torch.equal(view, expected)
    assert changed > 5


def test_colour_changes_have_the_order_of_simclr_and_erasing_is_last():
    train = classify.train(32, augment="randaugment", jitter=0.4, grayscale=0.2, blur=0.5, erase=0.1)

    names = [type(step).__name__ for step in train._steps]

    assert names == ["RandAugment", "ColorJitter", "RandomGrayscale", "RandomApply", "RandomErasing"]
