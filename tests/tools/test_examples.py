"""The training examples learn, survive Ctrl-C, and go on with the identical batch."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mps_shards import pack
from tests.support.things import segmentation_set
from tools.examples import classification, segmentation

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "examples" / "classification.py"
TINY = ("--batch-size", "8", "--size", "32", "--device", "cpu")
EXAMPLES: list[Any] = [classification, segmentation]


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """For networks as small as these, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photo_set(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(photos, tmp_path_factory.mktemp("examples") / "photos-shards").out


@pytest.fixture
def shards_of(photo_set: Path) -> Callable[[Any], Path]:
    return lambda example: photo_set if example is classification else segmentation_set()


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["net"]
    return found


def arguments(shards: Path, folder: Path, name: str, *, epochs: int = 3) -> list[str]:
    files = ("--checkpoint", str(folder / f"{name}.pt"), "--record", str(folder / f"{name}.keys"))
    return [str(shards), *TINY, *files, "--epochs", str(epochs)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_ctrl_c_between_any_two_steps_changes_neither_a_batch_nor_a_weight(
    example: Any, shards_of: Callable[[Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shards = shards_of(example)
    example.main(arguments(shards, tmp_path, "undisturbed"))
    true_loss, steps = torch.nn.functional.cross_entropy, iter(range(1, 1000))

    def pressed(*given: Any, **options: Any) -> torch.Tensor:
        if next(steps) in (2, 3, 5):
            signal.raise_signal(signal.SIGINT)
        return true_loss(*given, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", pressed)
    codes = [example.main(arguments(shards, tmp_path, "stopped")) for _ in range(4)]

    assert codes == [130, 130, 130, 0]
    assert (tmp_path / "stopped.keys").read_text() == (tmp_path / "undisturbed.keys").read_text()
    ours, theirs = weights(tmp_path / "stopped.pt"), weights(tmp_path / "undisturbed.pt")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_finished_training_has_nothing_left_to_do(
    example: Any, shards_of: Callable[[Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    example.main(arguments(shards_of(example), tmp_path, "once", epochs=1))
    first = capsys.readouterr().out

    example.main(arguments(shards_of(example), tmp_path, "once", epochs=1))

    assert first.startswith("epoch 0: ")
    assert capsys.readouterr().out == ""


def test_the_validation_set_is_looked_at_after_each_epoch(
    photo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    classification.main([*arguments(photo_set, tmp_path, "seen", epochs=4), "--val", str(photo_set)])

    shares = [float(share) for share in re.findall(r"([\d.]+)% on ", capsys.readouterr().out)]
    assert len(shares) == 4
    assert shares[-1] > 40  # of four classes


def test_a_segmentation_set_is_evaluated_at_its_stored_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shards = segmentation_set()

    segmentation.main([*arguments(shards, tmp_path, "seen", epochs=2), "--val", str(shards)])

    shares = [float(share) for share in re.findall(r"training, ([\d.]+) on ", capsys.readouterr().out)]
    assert len(shares) == 2 and all(0 < share <= 1 for share in shares)


def test_masks_are_asked_for_where_there_are_none(photo_set: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match="segment transforms need label maps, but this is a set for classification"):
        segmentation.main(arguments(photo_set, tmp_path, "none"))


def stopped_after_an_epoch(command: list[str]) -> int:
    """Run it, press Ctrl-C once it has trained for an epoch; the exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"epoch 0: ")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    return process.returncode


def test_a_process_that_gets_ctrl_c_is_continued_by_another(photo_set: Path, tmp_path: Path):
    killed = arguments(photo_set, tmp_path, "killed", epochs=10_000)

    code = stopped_after_an_epoch([sys.executable, str(SCRIPT), *killed])

    assert code == 130
    steps = len((tmp_path / "killed.keys").read_text().splitlines())
    epochs = steps // 8 + 2  # of 8 steps each
    assert classification.main(arguments(photo_set, tmp_path, "killed", epochs=epochs)) == 0
    assert classification.main(arguments(photo_set, tmp_path, "undisturbed", epochs=epochs)) == 0
    assert (tmp_path / "killed.keys").read_text() == (tmp_path / "undisturbed.keys").read_text()


@pytest.mark.slow
def test_two_ranks_stop_together_and_one_goes_on(photo_set: Path, tmp_path: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT)]
    files = ("--checkpoint", str(tmp_path / "two.pt"))

    code = stopped_after_an_epoch([*torchrun, str(photo_set), *TINY, *files, "--epochs", "10000"])

    assert code != 0
    saved = torch.load(tmp_path / "two.pt", weights_only=True)["loader"]
    assert classification.main([str(photo_set), *TINY, *files, "--epochs", str(saved["epoch"] + 1)]) == 0
    done = torch.load(tmp_path / "two.pt", weights_only=True)["loader"]
    assert (done["epoch"], done["position"]) == (saved["epoch"] + 1, 0)
