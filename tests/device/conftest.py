"""Fixtures: a small shard set of real photographs, and loaders over it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mps_shards import DeviceLoader, ShardDataset, classify, pack
from tools.support.fake_device import FakeDevice


@pytest.fixture(scope="session")
def shard_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("set") / "photos", shard_samples=20).out


@pytest.fixture
def loader_of(shard_set: Path) -> Callable[..., DeviceLoader]:
    def make(*, batch_size: int = 4, transfer: str | None = None, num_threads: int = 2, **options: Any) -> DeviceLoader:
        data = ShardDataset(
            shard_set, batch_size=batch_size, transform=classify.train(32), shuffle=True, keys=True, **options
        )
        return DeviceLoader(data, device="cpu", num_threads=num_threads, transfer=transfer)

    return make


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice() as found:
        yield found
