"""Several samples are read and planned before the first is decoded, with the same result as one at a time."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mps_shards import DeviceLoader, ShardDataset, SkipRules, classify, pack
from mps_shards.errors import DecodeError
from mps_shards.metrics import StageTimes
from mps_shards.reading.indexed_source import IndexedPlan, IndexedSource
from mps_shards.shards.raw_sample import RawSample
from tests.support.batches import assert_same
from tests.support.images import EXAMPLES, PACKED_AS_IT_IS, write
from tests.support.sets import keys, shard_set

TRANSFORMS = [
    classify.train(16),
    classify.train(64, scale=(0.01, 1.0), interpolation="bicubic"),
    classify.evaluate(16),
    classify.evaluate(37, 40, interpolation="nearest"),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_a_planned_view_gives_the_pixels_of_the_transform(tmp_path: Path, photos: Path, transform: Callable[..., Any]):
    source = write(tmp_path / "imgs", {name: make() for name, make in PACKED_AS_IT_IS.items()})
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        shutil.copy(path, source / f"photo-{number}.jpg")
    pack(source, tmp_path / "set", keys="name", layout="flat", drop_alpha=True)

    def batches(given: Callable[..., Any]) -> list[Any]:
        data = ShardDataset(tmp_path / "set", batch_size=7, transform=given, shuffle=True, seed=3, keys=True)
        with DeviceLoader(data, device="cpu", num_threads=2) as loader:
            return list(loader)

    assert_same(batches(transform), batches(lambda image, target, rng: transform(image, target, rng)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dark(classify.evaluate):
    """A user's transform, derived from ours."""

    def __call__(
        self, image: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, target = classify.evaluate.__call__(self, image, target, rng)
        return image // 2, target


def test_a_transform_that_extends_ours_is_applied():
    plain = classify.evaluate(8)
    dark = Dark(size=plain.size, resize=plain.resize, interpolation=plain.interpolation)

    for (images, _), (darker, _) in zip(
        *(ShardDataset(shard_set([9]), batch_size=4, transform=each) for each in (plain, dark)), strict=True
    ):
        assert torch.equal(darker, (images * 255).round().to(torch.uint8) // 2 / 255)


def test_a_transform_may_return_a_number_instead_of_an_image():
    data = ShardDataset(shard_set([9]), batch_size=4, transform=lambda image, target, _: (image.float().mean(), target))

    found = list(DeviceLoader(data, device="cpu", num_threads=2))

    expected = [image.mean() * 255 for image, _ in ShardDataset(shard_set([9]), batch_size=None)]
    assert torch.allclose(torch.cat([images for images, _ in found]), torch.stack(expected))


def test_the_error_names_the_first_bad_sample_of_a_batch(tmp_path: Path):
    """Reading sample 5 fails before decoding sample 2 fails."""
    damaged = torn(tmp_path, broken=2, torn=5)

    for loader in (lambda data: data, lambda data: DeviceLoader(data, device="cpu", num_threads=1)):
        with pytest.raises(DecodeError) as failure:
            list(loader(ShardDataset(damaged, batch_size=8)))
        assert keys([2])[0] in str(failure.value.__notes__)

        data = ShardDataset(damaged, batch_size=8, keys=True, on_bad_sample=SkipRules(max_bad=4))
        assert [batch[-1] for batch in loader(data)] == [keys([0, 1, 3, 4, 6, 7]), keys(range(8, 16))]


def torn(tmp_path: Path, *, broken: int, torn: int) -> Path:
    """Make a set of 16 samples: one cannot be decoded, and the tar header of another is overwritten."""
    folder = Path(shutil.copytree(shard_set([16], broken=[broken]), tmp_path / "torn"))
    offset = int(np.load(folder / "index.npy")[torn][0])
    with (folder / "s-000000.tar").open("r+b") as tar:
        tar.seek(offset)
        tar.write(b"?" * 512)
    return folder


@pytest.mark.parametrize(("size", "ahead"), [(10, 16), (1 << 17, 8), (1 << 20, 1), (9 << 20, 1)])
def test_samples_that_are_read_ahead_are_limited_in_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch, size: int, ahead: int
):
    taken, most = 0, 0

    def read(self: IndexedSource, number: int) -> RawSample:
        nonlocal taken
        taken += 1
        return RawSample(
            key=str(number), shard="s", fields={"cls": b"1", "jpg": EXAMPLES["rgb.jpg"](), "x": bytes(size)}
        )

    monkeypatch.setattr(IndexedSource, "read", read)
    monkeypatch.setattr(IndexedPlan, "opened", lambda *rows: nullcontext())  # the kernel cannot load the samples
    data = ShardDataset(shard_set([40]), batch_size=40, transform=classify.evaluate(8))
    iteration = data.iteration()
    iteration.begin()
    make = iteration.sample_maker(StageTimes())
    (plan,) = iteration.plans()
    batch = iteration.new_batch(plan, lambda nbytes: torch.empty(nbytes, dtype=torch.uint8), torch.float32)
    done = 0

    def put_rest(row: int, keys: list[str], targets: list[int]) -> None:
        nonlocal most, done
        most, done = max(most, taken - done), done + 1

    monkeypatch.setattr(batch, "put_rest", put_rest)
    monkeypatch.setattr(batch, "put", lambda row, sample: put_rest(row, [sample.key], [sample.target]))

    make(batch, 0, len(plan))

    assert (taken, most, done) == (40, ahead, 40)


def test_the_memory_of_dropped_batches_is_reused():
    addresses = set()
    with DeviceLoader(
        ShardDataset(shard_set([100]), batch_size=4), device="cpu", num_threads=2, host_batches=2
    ) as loader:
        for images, _ in loader:
            addresses.add(images.data_ptr())
            del images

    assert len(addresses) <= 2 + 1 + 2 + 1  # ready + ahead + 2 buffers, and the batch that was just dropped
