"""A transform's pixels depend on (seed, epoch, position, view) alone, whichever library draws the numbers."""

import hashlib
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.transforms import v2

from mps_shards import Collate, DeviceLoader, ShardDataset, classify, pack, segment
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms.sample_transform import recognise
from tests.support.things import segmentation_set
from tools.scripts.photos import make_photos

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]

V1 = v1.Compose([v1.RandomResizedCrop(16), v1.ColorJitter(0.4), v1.ToTensor(), v1.RandomErasing(1, value="random")])


def by_hand(image: torch.Tensor) -> torch.Tensor:
    """Add one random number of each of the three global generators."""
    side = random.randint(16, 30)
    top = np.random.randint(image.shape[1] - side)
    crop = image[:, top : top + side, :side] ^ torch.randint(0, 9, (1,), dtype=torch.uint8)
    return torch.nn.functional.pad(crop, [0, 32 - side, 0, 32 - side])


def with_compose_inside(image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[torch.Tensor, Any]:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return v1.functional.pil_to_tensor(v1.Compose(V1.transforms[:2])(picture)), target


def timm_pipeline() -> Any:
    data = pytest.importorskip("timm.data", reason="timm is not installed (make install does)")
    return data.create_transform(16, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.5, re_mode="pixel")


def albumentations_pipeline() -> Any:
    a = pytest.importorskip("albumentations", reason="albumentations is not installed (make install does)")
    steps = [a.RandomResizedCrop((16, 16)), a.HorizontalFlip(), a.ColorJitter(), a.CoarseDropout(), a.GaussNoise()]
    return a.Compose(steps)


CLASSIFICATION: dict[str, Callable[[], Any]] = {
    "ours": lambda: classify.train(16, augment="randaugment", jitter=0.4, grayscale=0.2, blur=0.5, erase=0.5),
    "views": lambda: (classify.train(16), V2_PLANNED, by_hand),
    "v1": lambda: v1.Compose([v1.RandomResizedCrop(16), v1.RandomOrder([v1.ColorJitter(0.4)]), v1.RandAugment()]),
    "v1 with tensors": lambda: V1,
    "v2 planned": lambda: V2_PLANNED,
    "v2": lambda: v2.Compose([v2.RandomRotation(30), v2.RandomResizedCrop(16), v2.TrivialAugmentWide()]),
    "albumentations": albumentations_pipeline,
    "timm": timm_pipeline,
    "function": lambda: by_hand,
    "function with a Compose inside": lambda: with_compose_inside,
}
V2_PLANNED = v2.Compose(
    [v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.AutoAugment(), v2.ToDtype(torch.float32, scale=True)]
)


@pytest.fixture(scope="module")
def classes_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    make_photos(folder / "imgs", count=32, size=(64, 48), classes=["brick", "cat"])
    return pack(folder / "imgs", folder / "set", shard_samples=10).out


def digest(batches: Iterable[Any]) -> str:
    """Return the SHA-256 of all batches, including keys and order."""
    found = hashlib.sha256()
    for images, targets, keys in batches:
        for tensor in (*(images if isinstance(images, tuple | list) else (images,)), targets):
            found.update(tensor.numpy().tobytes())
        found.update(" ".join(keys).encode())
    return found.hexdigest()


def threads(data: ShardDataset, count: int) -> str:
    with DeviceLoader(data, device="cpu", num_threads=count) as loader:
        return digest(loader)


def workers(data: ShardDataset, method: str) -> str:
    return digest(DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=method))


@pytest.mark.parametrize("make", CLASSIFICATION.values(), ids=CLASSIFICATION)
def test_pixels_do_not_depend_on_threads_workers_or_resuming(make: Callable[[], Any], classes_set: Path):
    transform = make()

    def data(**options: Any) -> ShardDataset:
        given = {"batch_size": 8, "transform": transform, "shuffle": True, "seed": 3, "keys": True}
        return ShardDataset(classes_set, **{**given, **options})

    batches = list(data())
    expected = digest(batches)

    assert threads(data(), 1) == threads(data(), 2) == threads(data(), 4) == expected
    assert workers(data(), "fork") == expected
    resumed = data()
    resumed.load_state_dict(data().state_dict(batches=2))
    assert threads(resumed, 2) == digest(batches[2:])
    assert threads(data(epoch=1), 2) != expected != threads(data(seed=4), 2)


def test_pixels_do_not_depend_on_spawned_workers(classes_set: Path):
    def data() -> ShardDataset:
        return ShardDataset(classes_set, batch_size=8, transform=(by_hand, V1, V2_PLANNED), keys=True)

    assert workers(data(), "spawn") == digest(data())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "rest",
    [
        [],
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])],
        [v2.ToDtype(torch.float32), v2.ToPureTensor()],
        [v2.Grayscale(3), v2.ToDtype(torch.float32, scale=True)],
    ],
    ids=len,
)
def test_a_planned_v2_pipeline_gives_torchvision_s_bits_for_its_crops(
    rest: list[Any], channels_last: bool, classes_set
):
    transform = v2.Compose([v2.RandomResizedCrop((16, 20)), v2.RandomHorizontalFlip(), *rest])
    data = ShardDataset(classes_set, batch_size=8, transform=transform, collate=Collate(channels_last=channels_last))
    originals = [image for image, _ in ShardDataset(classes_set, batch_size=None)]
    (planned,) = recognise(transform, task="classification").planned

    with DeviceLoader(data, device="cpu", num_threads=2) as loader:
        found = torch.cat([images for images, _ in loader])

    for position, original in enumerate(originals):
        pixels = (original * 255).round().to(torch.uint8)
        view = planned.geometry.plan(*pixels.shape[1:], KeyedRandom(seed=0).at(0, position))
        crop = v2.functional.resized_crop(pixels, *view.region, list(view.resized), antialias=True)
        expected = v2.Compose([v2.RandomHorizontalFlip(float(view.flip)), *rest])(crop)
        assert torch.equal(found[position], expected if expected.is_floating_point() else to_tensor(expected))


def to_tensor(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.to(torch.float32) / 255


SEGMENTATION: dict[str, Callable[[], Any]] = {
    "ours": lambda: segment.train(16, jitter=0.4, grayscale=0.5, blur=0.5),
    "v2": lambda: v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)]),
    "albumentations": albumentations_pipeline,
}


@pytest.mark.parametrize("make", SEGMENTATION.values(), ids=SEGMENTATION)
def test_label_maps_do_not_depend_on_threads_or_workers(make: Callable[[], Any]):
    transform = make()

    def data() -> ShardDataset:
        return ShardDataset(segmentation_set(), batch_size=4, transform=transform, shuffle=True, keys=True)

    expected = digest(data())

    assert threads(data(), 2) == threads(data(), 4) == workers(data(), "fork") == expected


@pytest.mark.parametrize("make", CLASSIFICATION.values(), ids=CLASSIFICATION)
def test_reading_does_not_change_the_random_generators_of_the_training_loop(make: Callable[[], Any], classes_set: Path):
    data = ShardDataset(classes_set, batch_size=8, transform=make(), keys=True)

    def drawn() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(1)), float(np.random.beta(0.2, 0.2))]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [drawn() for _ in range(len(data))]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)

    with DeviceLoader(data, device="cpu", num_threads=2) as loader:
        assert [drawn() for _ in loader] == expected
