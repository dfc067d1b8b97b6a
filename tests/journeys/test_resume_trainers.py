"""The state of a loader in the checkpoints of trainers: an interrupted run resumes with the next batch."""

import json
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
BROKEN = shard_set([20, 20], broken=[7])
EPOCHS = 3


def device_loader() -> DeviceLoader:
    data = ShardDataset(SET, batch_size=4, transform=classify.train(8), shuffle=True, keys=True)
    return DeviceLoader(data, device="cpu", num_threads=2)


@pytest.fixture(scope="module")
def uncut() -> list[list[str]]:
    """Return the keys of each step of all epochs, without a trainer."""
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
    """Return the keys of each step that Lightning trained on.

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


@pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.* is deprecated:FutureWarning"
)  # raised by Lightning 2.6 with torch 2.14
@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`:UserWarning")  # ours is exact
@pytest.mark.parametrize("cut", [3, 11, 14])
def test_lightning_resumes_with_the_next_batch(lightning, uncut, cut, tmp_path):
    given_out = fitted(lightning, tmp_path / "cut.ckpt", steps=cut)

    given_out += fitted(lightning, tmp_path / "cut.ckpt", resume=True)

    assert given_out == uncut


@pytest.fixture
def accelerate() -> Iterator[ModuleType]:
    """Import the package without state of an earlier run, as in a new process."""
    module = pytest.importorskip("accelerate", reason="accelerate is not installed (make install does)")
    yield module
    module.state.AcceleratorState._reset_state(reset_partial_state=True)


def accelerated(accelerate: ModuleType, folder: Path, *, resume: bool) -> Iterator[list[str]]:
    """Return the keys of each step of a training loop with accelerate, which saves a checkpoint after each step."""
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
def test_accelerate_resumes_with_the_next_batch(accelerate, uncut, cut, tmp_path):
    given_out = list(islice(accelerated(accelerate, tmp_path, resume=False), cut))

    given_out += accelerated(accelerate, tmp_path, resume=True)

    assert given_out == uncut


def hugging_face(transformers: ModuleType, folder: Path, *, stop: int | None = None, resume: int | None = None) -> Any:
    """Return pixels and labels of each step of two epochs of the Trainer, and the number of skipped samples.

    Saves a checkpoint after step `stop` and ends there, or resumes from the checkpoint of step `resume`. The loader and
    the callback are those of docs/recipes/transformers.md.
    """
    seen: list[tuple[float, list[int]]] = []

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 8 * 8, 3)

        def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append((pixel_values.sum().item(), labels.tolist()))
            logits = self.layer(pixel_values.flatten(1))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    class ShardTrainer(transformers.Trainer):
        def get_train_dataloader(self) -> DeviceLoader:
            return DeviceLoader(self.train_dataset, device=self.args.device, num_threads=2)

    class SaveLoader(transformers.TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, *, train_dataloader: Any, **kwargs: Any) -> None:
            path = Path(args.output_dir, f"checkpoint-{state.global_step}", "loader.json")
            path.write_text(json.dumps(train_dataloader.state_dict()))

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = control.should_training_stop = state.global_step == stop

    data = ShardDataset(BROKEN, batch_size=4, transform=classify.train(8), shuffle=True, on_bad_sample="skip")
    arguments = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        ignore_data_skip=True,
    )
    named = data.map(lambda batch: {"pixel_values": batch[0], "labels": batch[1]})
    trainer = ShardTrainer(Model(), arguments, train_dataset=named, callbacks=[SaveLoader()])
    checkpoint = None if resume is None else folder / f"checkpoint-{resume}"
    if checkpoint is not None:
        data.load_state_dict(json.loads((checkpoint / "loader.json").read_text()))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return seen, data.skipped.count


def test_the_hugging_face_trainer_skips_samples_advances_epochs_and_resumes_with_the_next_batch(accelerate, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make install does)")

    uncut, skipped = hugging_face(transformers, tmp_path)
    assert len(uncut) == 20 and skipped == 1
    assert sum(len(labels) for _, labels in uncut) == 2 * 39
    assert [labels for _, labels in uncut[:10]] != [labels for _, labels in uncut[10:]]  # the order of the second epoch

    for cut in (3, 10, 13):
        given_out, _ = hugging_face(transformers, tmp_path, stop=cut)
        rest, _ = hugging_face(transformers, tmp_path, resume=cut)

        assert given_out + rest == uncut
