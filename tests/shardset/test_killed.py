"""A maintenance command that is killed before any of its changes gives the same result when it is repeated."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mps_shards.shardset.indexing import adopt, index_labels
from mps_shards.shardset.repairs import repair
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from tests.support.damage import copied, cut, flip, swap
from tests.support.files import contents
from tests.support.killed import is_killed
from tests.support.sets import foreign_tars, shard_set


def damaged(folder: Path) -> None:
    """Return a set with every kind of damage that a repair can mend."""
    copied([4, 4, 4, 4, 3, 2], folder)
    index_labels(folder)
    flip(folder / "s-000000.tar", 1100)
    swap(folder / "s-000001.tar", folder / "s-000002.tar")
    cut(folder / "s-000003.tar", 9000)
    (folder / "s-000004.tar").rename(folder / "renamed.tar")
    (folder / "rubbish.tar").write_bytes(b"rubbish")
    (folder / "s-000009.tar.part").write_bytes(b"half")
    shutil.copy(shard_set([2], name="new") / "s-000000.tar", folder / "extra.tar")


def foreign(folder: Path) -> None:
    shutil.copytree(foreign_tars([3, 2]), folder)


def indexed(folder: Path) -> None:
    if not (folder / "manifest.json").exists():  # index refuses a set that is one already
        adopt(folder)


def unlabelled(folder: Path) -> None:
    copied([3, 2], folder)


def unpacked(folder: Path) -> None:
    unpack(folder, folder / "files", workers=1)


WORK: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "repair": (damaged, repair),
    "index": (foreign, indexed),
    "index of a set without labels": (unlabelled, index_labels),
    "unpack": (unlabelled, unpacked),
}


@pytest.mark.parametrize("command", WORK)
def test_a_killed_and_repeated_command_ends_as_an_undisturbed_one(command: str, tmp_path: Path):
    prepare, work = WORK[command]
    prepare(tmp_path / "undisturbed")
    work(tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    number = 0
    while True:
        folder = tmp_path / str(number)
        prepare(folder)
        if not is_killed(partial(work, folder), folder, before=number):
            break
        work(folder)

        assert contents(folder) == expected, f"killed before change {number}"
        shutil.rmtree(folder)
        number += 1

    assert number >= 5
    if command != "unpack":
        assert verify(tmp_path / "undisturbed").problems == ()


def test_a_repair_that_is_killed_twice_ends_as_undisturbed(tmp_path: Path):
    damaged(tmp_path / "undisturbed")
    undisturbed = repair(tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")

    for first in range(0, 60, 13):
        for second in range(0, 20, 6):
            folder = tmp_path / "set"
            damaged(folder)
            for number in (first, second):
                is_killed(partial(repair, folder), folder, before=number)
            report = repair(folder)

            assert contents(folder) == expected, f"killed before changes {first} and {second}"
            assert not report.steps or (report.steps, report.lost) == (undisturbed.steps, undisturbed.lost)
            shutil.rmtree(folder)


def test_a_dry_run_prints_the_steps_that_a_killed_repair_left(tmp_path: Path):
    folder = tmp_path / "set"
    damaged(folder)
    planned = repair(folder, dry_run=True)
    assert is_killed(lambda: repair(folder), folder, before=40)
    before = contents(folder)

    going_on = repair(folder, dry_run=True)

    assert (going_on.steps, going_on.lost, going_on.after) == (planned.steps, planned.lost, planned.after)
    assert contents(folder) == before
    assert "unfinished repair" in [problem.kind for problem in verify(folder).problems]
