"""Large images wait for each other, so that the memory of all threads together is bounded."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import DeviceLoader, ShardDataset, pack
from mps_shards.vision import decoding, pixel_budget
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.pixel_budget import COUNTED_FROM, PixelBudget
from tests.support.images import encoded

SIDE = 4200  # slightly more pixels than COUNTED_FROM


@pytest.fixture(scope="module")
def large_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    (folder / "imgs" / "a").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(np.full((SIDE, SIDE), number, np.uint8)).save(folder / "imgs" / "a" / f"{number}.png")
    return pack(folder / "imgs", folder / "set").out


@pytest.mark.parametrize(("allowed", "together"), [(SIDE * SIDE, 1), (2 * SIDE * SIDE, 2)])
def test_threads_hold_no_more_large_images_than_fit(
    large_images: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, together: int
) -> None:
    lock, held, most = threading.Lock(), 0, 0
    load = decoding.load_image
    budget = PixelBudget(allowed)
    for module in ("mps_shards.reading.sample_maker", "mps_shards.vision.decoding"):
        monkeypatch.setattr(f"{module}.budget", budget)

    def counted(*given: Any) -> Any:
        nonlocal held, most
        image = load(*given)
        with lock:
            held += 1
            most = max(most, held)
        return image

    def small(image: torch.Tensor, target: int) -> Any:
        nonlocal held
        shown = image[:, :4, :4].clone()
        with lock:
            held -= 1
        return shown, target

    monkeypatch.setattr("mps_shards.vision.decoding.load_image", counted)
    data = ShardDataset(large_images, batch_size=2, transform=small)
    with DeviceLoader(data, device="cpu", num_threads=4) as loader:
        delivered = [int(image[0, 0, 0] * 255 + 0.5) for images, _ in loader for image in images]

    assert sorted(delivered) == list(range(6))
    assert 1 <= most <= together


def test_an_image_larger_than_the_limit_is_decoded_alone() -> None:
    budget = PixelBudget(COUNTED_FROM)
    order: list[str] = []

    def other() -> None:
        budget.begin_sample()
        budget.take(COUNTED_FROM)
        order.append("other")
        budget.end_sample()

    budget.begin_sample()
    budget.take(10 * COUNTED_FROM)
    budget.take(COUNTED_FROM)  # its label map: a thread that holds pixels does not wait
    thread = threading.Thread(target=other)
    thread.start()
    order.append("first")
    budget.end_sample()
    thread.join(10)

    assert order == ["first", "other"]


def test_nothing_waits_for_memory_outside_of_a_sample() -> None:
    budget = PixelBudget(1)

    budget.take(10 * COUNTED_FROM)
    budget.take(10 * COUNTED_FROM)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA"])
def test_a_large_image_converted_in_bands_has_the_same_pixels(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (61, 47, 3), dtype=np.uint8)).convert(mode)
    content = encoded(image, "TIFF")
    whole = decode_image(content)

    monkeypatch.setattr(decoding, "COUNTED_FROM", 1)
    monkeypatch.setattr(decoding, "_BAND_PIXELS", 500)

    assert np.array_equal(decode_image(content), whole)
    assert np.array_equal(whole, np.asarray(image.convert("RGB")))


def test_the_pixel_budget_is_the_size_of_the_largest_accepted_image() -> None:
    assert pixel_budget.LIMIT == decoding.MAX_PIXELS
