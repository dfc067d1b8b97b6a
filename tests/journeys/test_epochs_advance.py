"""Epochs advance automatically in loops and trainers that never call set_epoch."""

import logging
from itertools import islice
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from mps_shards import DeviceLoader, ShardDataset, classify
from tests.support.sets import shard_set

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*LeafSpec.* is deprecated:FutureWarning"
    ),  # raised by Lightning 2.6 with torch 2.14
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`:UserWarning"),  # our length is exact
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning"),
]

SET = shard_set([5, 0, 1, 24, 11])


def dataset(**options: Any) -> ShardDataset:
    return ShardDataset(
        SET, **{"batch_size": 4, "transform": classify.train(8), "shuffle": True, "keys": True, **options}
    )


def sums(batches: Any) -> list[tuple[tuple[str, ...], float]]:
    """Return the keys and the sums of pixels of each batch."""
    return [(tuple(keys), float(images.sum())) for images, _, keys in batches]


@pytest.fixture(scope="module")
def epochs() -> list[list[tuple[tuple[str, ...], float]]]:
    return [sums(dataset(epoch=epoch)) for epoch in range(4)]


def test_each_iteration_has_a_new_order_and_new_crops_until_an_epoch_is_set(epochs):
    data = dataset()
    loader = DeviceLoader(data, device="cpu", num_threads=2)

    assert sums(data) == epochs[0]
    assert sums(loader) == epochs[1]
    assert sums(islice(loader, 3)) == epochs[2][:3]  # left early
    assert sums(data) == epochs[3]
    data.set_epoch(1)
    assert [sums(data), sums(data)] == epochs[1:3]
    assert len({str(epoch) for epoch in epochs}) == 4


def test_an_iteration_that_delivered_nothing_is_not_counted(epochs):
    data = dataset()
    iter(data)
    iter(DeviceLoader(data, device="cpu"))
    failing = dataset(transform=lambda image, target, rng: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            next(iter(failing))

    assert sums(data) == epochs[0]
    assert "epoch=0" in repr(failing)


def test_a_second_simultaneous_iteration_has_the_next_epoch(epochs):
    data = dataset()
    first, second = iter(data), iter(data)

    found = sums([next(first), next(second), next(first), next(second)])

    assert found == [epochs[0][0], epochs[1][0], epochs[0][1], epochs[1][1]]


def test_evaluation_in_the_order_of_packing_is_the_same_each_time():
    data = dataset(shuffle=False, transform=classify.evaluate(8))

    assert sums(data) == sums(data) == sums(DeviceLoader(data, device="cpu"))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_advance_in_the_loader_of_torchdata(epochs, workers, persistent):
    loader = StatefulDataLoader(
        dataset(),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        persistent_workers=persistent and workers > 0,
    )

    assert [sums(loader) for _ in range(3)] == epochs[:3]


@pytest.fixture(scope="module")
def lightning() -> ModuleType:
    module = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed (make install does)")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return module


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_epochs_advance_in_lightning_without_a_callback(lightning, epochs, workers, tmp_path):
    seen = []
    if workers is None:
        loader: Any = DeviceLoader(dataset(), device="cpu", num_threads=2)
    else:
        method = "fork" if workers else None
        loader = DataLoader(dataset(), batch_size=None, num_workers=workers, multiprocessing_context=method)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            seen.extend(sums([batch]))
            return torch.nn.functional.cross_entropy(self.layer(batch[0].mean((2, 3))), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    lightning.Trainer(max_epochs=3, accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet).fit(
        Module(), loader
    )

    assert seen == [batch for epoch in epochs[:3] for batch in epoch]


def test_epochs_advance_in_accelerate(epochs):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (make install does)")
    loader = accelerate.Accelerator(cpu=True).prepare(DataLoader(dataset(keys=False), batch_size=None))

    found = [[float(images.sum()) for images, _ in loader] for _ in range(3)]

    assert found == [[pixels for _, pixels in epoch] for epoch in epochs[:3]]
