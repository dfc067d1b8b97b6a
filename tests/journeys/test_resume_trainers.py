"""A loader's state rides in the checkpoints of Lightning and accelerate, and a run goes on where it was cut."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mps_shards import DeviceLoader, ShardDataset, classify
from tests.support.sets import shard_set

SET = shard_set([5, 0, 1, 24, 11])  # 41 samples: 11 batches of 4, the last of one
EPOCHS = 3


def device_loader() -> DeviceLoader:
    data = ShardDataset(SET, batch_size=4, transform=classify.train(8), shuffle=True, keys=True)
    return DeviceLoader(data, device="cpu", num_threads=2)


@pytest.fixture(scope="module")
def uncut() -> list[list[str]]:
    """The keys of each step of all epochs, without any trainer."""
    data = device_loader().dataset
    found = []
    for epoch in range(EPOCHS):
        data.set_epoch(epoch)
        found += [keys for _, _, keys in data]
    return found


@pytest.fixture(scope="module")
def lightning() -> ModuleType:
    module = pytest.importorskip("lightning.pytorch", reason="Lightning is not installed (make install does)")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return module


def fitted(lightning: ModuleType, checkpoint: Path, *, steps: int = -1, resume: bool = False) -> list[list[str]]:
    """The keys of each step that Lightning trained on.

    Saves a checkpoint after so many steps; at the end of an epoch in the hook for that, as `ModelCheckpoint` does:
    Lightning 2.6 itself passes over an epoch if it resumes any stateful loader from an epoch's last step.
    """
    seen: list[list[str]] = []
    loader = device_loader()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 8 * 8, 3)

        def on_train_epoch_start(self) -> None:
            loader.set_epoch(self.current_epoch)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            images, targets, keys = batch
            seen.append(keys)
            return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), targets)

        def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
            if self.global_step == steps and index + 1 < len(loader):
                self.trainer.save_checkpoint(checkpoint)

        def on_train_epoch_end(self) -> None:
            if self.global_step == steps and steps % len(loader) == 0:
                self.trainer.save_checkpoint(checkpoint)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        max_steps=steps,
        accelerator="cpu",
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), train_dataloaders=loader, ckpt_path=checkpoint if resume else None)
    return seen


@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")  # Lightning 2.6 on torch 2.14
@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`:UserWarning")  # ours is exact
@pytest.mark.parametrize("cut", [3, 11, 14])
def test_lightning_goes_on_with_the_very_next_batch(lightning, uncut, cut, tmp_path):
    given_out = fitted(lightning, tmp_path / "cut.ckpt", steps=cut)

    given_out += fitted(lightning, tmp_path / "cut.ckpt", resume=True)

    assert given_out == uncut


@pytest.fixture
def accelerate() -> Iterator[ModuleType]:
    """The package, with nothing left of an earlier run, as in a new process."""
    module = pytest.importorskip("accelerate", reason="accelerate is not installed (make install does)")
    yield module
    module.state.AcceleratorState._reset_state(reset_partial_state=True)


def accelerated(accelerate: ModuleType, folder: Path, *, resume: bool) -> Iterator[list[str]]:
    """The keys of each step of a training loop with accelerate; saves a checkpoint after each of them."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True)
    model, loader = accelerator.prepare(torch.nn.Linear(1, 1)), device_loader()
    accelerator.register_for_checkpointing(loader)
    if resume:
        accelerator.load_state(folder)
    for epoch in range(loader.state_dict()["epoch"], EPOCHS):
        loader.set_epoch(epoch)
        for images, _, keys in loader:
            model(images.mean().reshape(1))
            accelerator.save_state(folder)
            yield keys


@pytest.mark.parametrize("cut", [3, 11, 14])
def test_accelerate_goes_on_with_the_very_next_batch(accelerate, uncut, cut, tmp_path):
    given_out = list(islice(accelerated(accelerate, tmp_path, resume=False), cut))

    given_out += accelerated(accelerate, tmp_path, resume=True)

    assert given_out == uncut
