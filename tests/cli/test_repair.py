"""Output of ``repair``: the steps, the losses, and errors."""

from pathlib import Path

import pytest

from tests.support.commands import refused, run
from tests.support.damage import copied, flip
from tests.support.files import contents
from tests.support.sets import foreign_tars


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    folder = copied([2, 2, 2], tmp_path / "set")
    (folder / "s-000001.tar").unlink()
    flip(folder / "s-000002.tar", 1600)
    return folder


REPAIRED = [
    "step        file                      why",
    "drop        s-000001.tar              it is missing",
    "salvage     s-000002.tar              1 of its samples are sound and are kept",
    "quarantine  s-000002.tar              its SHA-256 differs from the manifest's",
    "rebuild     index.npy, manifest.json  they must match the shards",
    "Lost: 3 samples",
    "shard         sample  samples  why",
    "s-000001.tar          2        the shard is missing, so its keys are unknown",
    "s-000002.tar  s00004  1        its bytes have CRC-32 #, but the index says #",
    "Samples: 3 of 6",
]


def test_repair_prints_its_steps_and_losses(tmp_path: Path, damaged: Path):
    said = run("repair", damaged)

    assert (said.code, said.stderr) == (0, f"Next: mps-shards verify {damaged}\n")
    assert said.lines(tmp_path) == ["DIR/set: repaired", *REPAIRED]
    assert run("verify", damaged).code == 0
    assert run("repair", damaged).lines(tmp_path) == ["DIR/set: nothing to repair (3 samples)"]


def test_a_dry_run_prints_the_same_steps_and_changes_nothing(tmp_path: Path, damaged: Path):
    before = contents(damaged)

    said = run("repair", damaged, "--dry-run")

    assert said.lines(tmp_path) == ["DIR/set: would be repaired; nothing was changed (--dry-run)", *REPAIRED]
    assert contents(damaged) == before


def test_the_report_as_json(damaged: Path):
    report = run("repair", damaged, "--json", "--no-salvage").json()

    assert (report["before"], report["after"], report["dry_run"]) == (6, 2, False)
    assert [(step["what"], step["where"]) for step in report["steps"]] == [
        ("drop", "s-000001.tar"),
        ("quarantine", "s-000002.tar"),
        ("rebuild", "index.npy, manifest.json"),
    ]
    assert [(loss["shard"], loss["samples"]) for loss in report["lost"]] == [("s-000001.tar", 2), ("s-000002.tar", 2)]


def test_repair_leaves_good_and_empty_sets_alone(tmp_path: Path):
    good, empty = copied([2], tmp_path / "good"), copied([], tmp_path / "empty")

    assert run("repair", good).lines(tmp_path) == ["DIR/good: nothing to repair (2 samples)"]
    assert run("repair", empty).lines(tmp_path) == ["DIR/empty: nothing to repair (0 samples)"]
    assert run("repair", good, "--json").json()["steps"] == []


def test_a_set_that_cannot_be_repaired_gives_one_line(tmp_path: Path, damaged: Path):
    (damaged / "s-000000.tar").write_bytes(b"rubbish")

    assert refused("repair", damaged, "--no-salvage") == f"{damaged} holds no sound shard; nothing was changed"
    assert refused("repair", tmp_path / "gone").endswith("no such directory")
    assert refused("repair", foreign_tars([1])).endswith("see mps-shards index")
