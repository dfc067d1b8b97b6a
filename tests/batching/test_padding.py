"""A padded batch stays within the memory limit, or is an error that names the sizes."""

import contextlib
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mps_shards import Collate, DeviceLoader, ShardDataset, pack
from mps_shards.errors import ConfigError
from mps_shards.reading.epoch_iteration import EpochIteration
from tools.support.fake_device import FakeDevice


def packed(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    (folder / "imgs" / "a").mkdir(parents=True)
    for number, (height, width) in enumerate(sizes):
        pixels = np.full((height, width, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "imgs" / "a" / f"{number:03}.png")
    return pack(folder / "imgs", folder / "set").out


@pytest.mark.parametrize("transfer", ["cpu", "inline"])
def test_a_padded_batch_above_the_memory_limit_is_an_error_with_the_numbers(tmp_path: Path, transfer: str) -> None:
    shards = packed(tmp_path, [(20, 30)] * 6 + [(1500, 2000), (20, 30)])
    data = ShardDataset(shards, batch_size=4, collate=Collate(pad=1))
    shapes = [images.shape for images, _ in data]
    data.set_epoch(0)
    received = []

    message = r"a batch of 4 images, padded to 1500 x 2000 because of sample 'a/006' \(1500 x 2000\), takes .* MB"
    with pytest.raises(ConfigError, match=message + r".*memory=20,000,000 allows \(20.0 MB\): resize"):
        for images, _ in DeviceLoader(data, device="cpu", transfer=transfer, memory=20_000_000):
            received.append(images)

    assert [images.shape for images in received] == shapes[: shapes.index((4, 3, 1500, 2000))]


def test_without_a_memory_limit_a_padded_batch_may_be_huge(tmp_path: Path) -> None:
    shards = packed(tmp_path, [(20, 30)] * 3 + [(700, 900)])

    ((images, (_, sizes)),) = DeviceLoader(
        ShardDataset(shards, batch_size=4, collate=Collate(pad=1)), device="cpu", num_threads=2
    )

    assert images.shape == (4, 3, 700, 900) and sizes.tolist()[-1] == [700, 900]


@pytest.mark.parametrize("threads", [1, 3])
def test_waiting_samples_and_padded_batches_stay_within_the_memory_limit(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shards = packed(tmp_path, [(int(side), int(rng.integers(20, 200))) for side in rng.integers(20, 200, 60)])
    data = ShardDataset(shards, batch_size=5, collate=Collate(pad=16), shuffle=True, keys=True)
    expected = list(data)
    limit, most = 1_500_000, 0
    batches: list[Any] = []
    new_batch = EpochIteration.new_batch
    monkeypatch.setattr(EpochIteration, "new_batch", lambda *given: batches.append(new_batch(*given)) or batches[-1])

    with FakeDevice() as device:
        loader = DeviceLoader(data, device="cpu", transfer="inline", num_threads=threads, memory=limit)
        loader._checked_device = device
        data.set_epoch(0)
        received = []
        for images, *rest in loader:
            received.append((images, *rest))
            workers = loader._workers()
            with workers._lock if workers is not None else contextlib.nullcontext():  # no memory is granted meanwhile
                kept = sum(s.image.nbytes for batch in batches for s in list(batch._samples) if s is not None)
                buffers = sum(buffer.capacity for buffer in workers.buffers) if workers is not None else 0
            most = max(most, kept + buffers)
        device.drain()

    assert [keys for *_, keys in received] == [keys for *_, keys in expected]
    for (images, *_), (others, *_) in zip(received, expected, strict=True):
        assert torch.equal(images, others)
    assert limit / 4 < most <= limit


def test_a_padded_batch_is_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    data = ShardDataset(packed(tmp_path, [(20, 30)] * 12), batch_size=4, collate=Collate(pad=1))
    gc.collect()
    gc.disable()
    try:
        seen: list[weakref.ref[Any]] = []
        new_batch = EpochIteration.new_batch

        def watched(*given: Any) -> Any:
            batch = new_batch(*given)
            seen.append(weakref.ref(batch))
            return batch

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EpochIteration, "new_batch", watched)
            list(DeviceLoader(data, device="cpu", transfer="inline", num_threads=2, memory=10**8))
        assert len(seen) == 3 and [batch() for batch in seen] == [None] * 3
    finally:
        gc.enable()
