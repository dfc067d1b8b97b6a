"""Output of ``pack`` about plans, skipped files, duplicates, array tasks and progress."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mps_shards import pack
from mps_shards import progress_bar as progress
from tests.support.files import contents
from tests.support.images import class_folders, tiny_jpeg, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    class_folders(tmp_path / "imgs", classes=3, each=4)
    return tmp_path / "imgs"


def said(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mps_shards", "pack", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_a_dry_run_shows_the_plan_and_writes_nothing(source: Path, tmp_path: Path):
    done = said(source, tmp_path / "out", "--dry-run", "--shard-samples", 5)

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 12 samples in 3 shards, 0.0 MB, 4 per class",
        "Would pack 12 images, 0.0 MB; nothing was written",
    ]
    assert not (tmp_path / "out").exists() and "Next:" not in done.stderr


def test_skipped_and_duplicate_images_are_printed(source: Path, tmp_path: Path):
    write(source, {"class-0/bad.jpg": b"no image", "class-2/twin.jpg": tiny_jpeg(0)})

    done = said(source, tmp_path / "out", "--on-bad-sample", "skip")

    lines = done.stdout.splitlines()
    assert lines[0].endswith("13 samples in 1 shard, 0.0 MB, 4 (class-0) to 5 (class-2) per class")
    assert lines[1].startswith(
        f"Skipped 1 image, see {tmp_path / 'out' / 'skipped.jsonl'}: class-0/bad.jpg is not an image"
    )
    assert done.stderr.endswith(f"Next: mps-shards preview {tmp_path / 'out'} -o sheet.png\n")
    assert lines[2] == "Found 1 image that repeats another: class-2/twin.jpg (as class-0/00.jpg)"
    assert lines[3] == "Labels differ in 1 of these cases: class-2/twin.jpg (as class-0/00.jpg)"


def test_tasks_of_a_slurm_array_take_their_index_from_the_environment_and_are_committed(source: Path, tmp_path: Path):
    out = tmp_path / "out"
    for task in (7, 5):  # --array=5-7:2
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": 5, "SLURM_ARRAY_TASK_STEP": 2}
        counted = {"SLURM_ARRAY_TASK_COUNT": 2}
        environment = {name: str(value) for name, value in {**slurm, **counted}.items()}
        done = said(source, out, "--executor", "array", "--shard-samples", 5, **environment)
        assert (
            done.stdout
            == f"The shards of this task are finished. After all tasks, run: mps-shards pack --commit {out}\n"
        )
    copy = shutil.copytree(out, tmp_path / "copy")

    committed = said("--commit", out, "--json")

    assert json.loads(committed.stdout)["sets"][0]["samples"] == 12
    assert "\nCommitted 12 images in " in said("--commit", copy).stdout
    assert contents(out) == contents(pack(source, tmp_path / "other", shard_samples=5).out)
    assert f"Already committed: the sets in {out} are finished" in said("--commit", out).stdout


@pytest.mark.parametrize(("name", "value"), [("ID", "x"), ("MIN", "-1"), ("STEP", "0"), ("COUNT", "2.5")])
def test_a_number_of_the_array_job_that_is_none_is_a_usage_error_that_names_it(source: Path, name: str, value: str):
    numbers = {f"SLURM_ARRAY_TASK_{each}": "1" for each in ("ID", "MIN", "STEP", "COUNT")}
    done = said(source, "--executor", "array", **{**numbers, f"SLURM_ARRAY_TASK_{name}": value})

    assert done.returncode == 2
    assert f"SLURM_ARRAY_TASK_{name} is '{value}', not a whole number from" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--executor", "array"], "needs task_index and num_tasks"),
        (["--commit", "x"], "--commit takes the folder that the tasks wrote to, and no SOURCE"),
        (["--num-tasks", "3"], "task_index and num_tasks go with executor 'array'"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(source: Path, arguments: list[str], complaint: str):
    done = said(source, *arguments)

    assert (done.returncode, complaint in done.stderr) == (2, True)


def test_committing_a_folder_without_a_pack_gives_one_line(tmp_path: Path):
    done = said("--commit", tmp_path)

    assert (done.returncode, done.stderr) == (
        1,
        f"Error: {tmp_path} holds no unfinished pack; there is nothing to commit\n",
    )


def test_without_a_terminal_a_line_is_printed_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)

    with progress.Bar("pack", unit="images", total=100) as bar:
        for _ in range(3):
            now += 4
            bar.advance(10, 2_000_000)

    line = "pack: 20 of 100 images, 4.0 MB, 2 images/s, 0.5 MB/s, 32 s left\n"
    assert capsys.readouterr().err == line


def test_the_help_shows_every_option_once_under_a_heading():
    shown = said("--help").stdout

    for heading in ("Source:", "Shards:", "Work:", "Options:"):
        assert f"\n{heading}\n" in shown
    assert all(shown.count(f"\n  {option} ") == 1 for option in ("--layout", "--shard-size", "--workers", "--dry-run"))
