"""`make demo` keeps every promise that it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tools.scripts import demo

ROOT = Path(__file__).parents[2]


def test_the_journey_ends_well_and_a_second_one_starts_clean(tmp_path):
    out = tmp_path / "out"
    stale = out / "shards" / "train" / "stale.tar"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (out / "mine.txt").touch()

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tools.scripts.demo",
            "--out",
            str(out),
            "--photos",
            "150",
            "--epochs",
            "10",
            "--device",
            "cpu",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert not stale.exists() and (out / "mine.txt").exists()
    assert len(list((out / "shards" / "train").glob("*.tar"))) > 1
    for said in (
        r"samples +120",
        r"epoch 2 of 2: +120 images, +[\d,]+ images/s",
        "the same 8 keys",
        r"\d+ of 30 validation",
    ):
        assert re.search(said, done.stdout), f"{said!r} not in:\n{done.stdout}"
    assert "\r" not in done.stdout and "\033" not in done.stdout
    first, last = map(float, re.findall(r"loss ([\d.]+) at the start, ([\d.]+) at the end", done.stdout)[0])
    assert last < 0.6 * first
    with Image.open(out / "batch.png") as sheet:
        assert sheet.width > 1000 and len(sheet.getcolors(1 << 24)) > 1000


def test_ten_lines_are_ten():
    assert len((demo.READ + demo.TRAIN).splitlines()) == 10


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(demo.DemoFailed("no fall"), 1, "failed: no fall"), (KeyboardInterrupt(), 130, "Stopped")],
)
def test_failing_or_being_stopped_is_said_without_a_traceback(raised, code, said, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(demo, "run", fail)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path)])

    assert demo.main() == code
    assert said in capsys.readouterr().out


def test_a_device_that_is_not_there_is_named_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path), "--photos", "150", "--device", "toaster"])

    assert demo.main() == 1
    assert "unknown device 'toaster'" in capsys.readouterr().out
