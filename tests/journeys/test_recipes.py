"""Each recipe in docs/recipes runs unchanged with the real package, and trains."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder

from mps_shards import ShardDataset, pack

RECIPES = Path(__file__).parents[2] / "docs/recipes"
COLOURS = {"blue": (40, 60, 180), "green": (50, 170, 60), "red": (180, 50, 40)}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*LeafSpec.* is deprecated:FutureWarning"
    ),  # raised by Lightning 2.6 with torch 2.14
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__`:UserWarning"),  # Lightning; ours is exact
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with ``imgs`` and ``imgs-shards``: noisy images of three classes that differ in colour."""
    folder = tmp_path_factory.mktemp("recipes")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 10)):
        for name, colour in COLOURS.items():
            (folder / "imgs" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 45, (40, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "imgs" / split / name / f"{number}.jpg", quality=90)
    pack(folder / "imgs", folder / "imgs-shards", shard_samples=20)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a new working directory with these sets."""
    for name in ("imgs", "imgs-shards"):
        (tmp_path / name).symlink_to(made / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hide the logging of trainers, and restore torch's generator for the next test."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with torch.random.fork_rng(devices=[]):
        yield


def code_of(recipe: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", (RECIPES / f"{recipe}.md").read_text("utf-8"), re.DOTALL))


def run(recipe: str, *, name: str = "__main__") -> dict[str, Any]:
    """Run the code of a recipe, and return its global names."""
    found: dict[str, Any] = {"__name__": name}
    exec(compile(code_of(recipe), f"{recipe}.md", "exec"), found)
    return found


def test_every_recipe_is_listed_and_tested():
    listed = re.findall(r"\((\w+)\.md\)", (RECIPES / "README.md").read_text("utf-8"))
    tests = Path(__file__).read_text("utf-8")

    assert sorted(listed) == sorted(path.stem for path in RECIPES.glob("*.md") if path.stem != "README")
    assert all(f'"{name}"' in tests for name in listed)


def test_plain_pytorch_trains_and_resumes(here: Path):
    assert run("pytorch")["accuracy"] > 0.9

    assert run("pytorch")["first_epoch"] == 6  # the checkpoint stands at the end


def test_an_imagefolder_script_trains_to_the_same_accuracy_with_two_lines_changed(here: Path):
    changed = code_of("imagefolder")
    (before, after) = (
        re.findall(rf"^\{sign}(.*)$", (RECIPES / "imagefolder.md").read_text("utf-8"), re.MULTILINE) for sign in "-+"
    )
    assert len(before) == len(after) == 2 and all(line in changed for line in after)
    original = changed
    for old, new in zip(before, after, strict=True):
        original = original.replace(new, old)
    names: dict[str, Any] = {"ImageFolder": ImageFolder}

    exec(compile(original, "imagefolder.md, before", "exec"), names)
    found = run("imagefolder")

    assert found["train_set"].classes == names["train_set"].classes
    assert names["accuracy"] > 0.9 and found["accuracy"] > 0.9
    assert abs(names["accuracy"] - found["accuracy"]) < 0.06  # 4 of 72 samples; the order of the batches differs


def test_an_imagefolder_and_its_shards_give_the_same_tensors(here: Path):
    transform = v1.Compose([v1.Resize(36), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize([0.5] * 3, [0.2] * 3)])
    folder = DataLoader(ImageFolder("imgs/val", transform), batch_size=30)

    shards = ShardDataset("imgs-shards/val", batch_size=30, transform=transform, keys=True)

    (images, labels), (found, targets, keys) = next(iter(folder)), next(iter(shards))
    paths = [path.removeprefix("imgs/").removesuffix(".jpg") for path, _ in folder.dataset.samples]
    order = [keys.index(path) for path in paths]
    assert torch.equal(found[order], images) and torch.equal(targets[order], labels)


def test_torchvision_s_reference_loop_trains(here: Path):
    assert run("torchvision")["accuracy"] > 0.9


def test_timm_s_train_step_trains(here: Path):
    pytest.importorskip("timm", reason="timm is not installed (make install does)")

    assert run("timm")["accuracy"] > 0.6


def test_lightning_fits_and_validates(here: Path):
    pytest.importorskip("lightning", reason="Lightning is not installed (make install does)")

    assert run("lightning")["accuracy"] > 0.9


@pytest.mark.slow
def test_lightning_trains_with_ddp_in_two_processes(here: Path):
    pytest.importorskip("lightning", reason="Lightning is not installed (make install does)")
    script = here / "ddp.py"
    script.write_text(
        code_of("lightning").replace('accelerator="cpu"', 'accelerator="cpu", strategy="ddp", devices=2'), "utf-8"
    )
    environment = {**os.environ, "PYTHONPATH": str(RECIPES.parents[1]), "OMP_NUM_THREADS": "1"}

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, env=environment)

    assert done.returncode == 0, done.stderr
    assert re.findall(r"(\d+)% right", done.stdout) and all(
        int(n) > 90 for n in re.findall(r"(\d+)% right", done.stdout)
    )


def test_accelerate_trains(here: Path):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (make install does)")
    try:
        assert run("accelerate")["accuracy"] > 0.9
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def test_the_hugging_face_trainer_trains(here: Path):
    pytest.importorskip("transformers", reason="transformers is not installed (make install does)")
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (make install does)")
    try:
        found = run("transformers")
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)

    assert found["accuracy"] > 0.6
    assert found["trainer"].state.global_step == 6 * len(found["train"])


def test_stateful_dataloader_resumes_with_the_next_batch(here: Path):
    pytest.importorskip("torchdata", reason="torchdata is not installed (make install does)")

    found = run("stateful_dataloader")

    assert sorted(key for keys in [*found["seen"], *found["rest"]] for key in keys) == sorted(
        f"train/{name}/{number}" for name in COLOURS for number in range(24)
    )


def test_the_cells_of_a_notebook_show_samples_and_give_the_same_result_again(here: Path):
    found = run("notebook")

    assert torch.equal(found["images"], found["again"])
    assert set(found["names"]) <= set(COLOURS) and found["grid"].shape == (32, 8 * 32, 3)
