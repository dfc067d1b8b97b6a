"""After a power cut at any time, reported results exist, and the repeated command gives an undisturbed result.

Every change that a program makes on the disk is recorded. After each change, data that the disk need not have stored
may be lost; see `tests.support.power_cut`. The tests try a sample of these states; ``make faults`` tries all.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from mps_shards.errors import ShardsError
from mps_shards.packing import commit, pack
from mps_shards.shardset.opening import find_manifest
from mps_shards.shardset.verification import verify
from mps_shards.storage.location import open_folder
from tests.support.commands import run
from tests.support.disk_programs import PROGRAMS, Program
from tests.support.files import contents
from tests.support.images import class_folders
from tests.support.power_cut import State, recording, states
from tests.support.sets import shard_set

EVERY = int(os.environ.get("MPS_SHARDS_FAULTS_EVERY", "499"))


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """Result of an undisturbed program.

    Attributes:
        before: files before the program runs.
        changes: number of changes that the program makes on the disk.
        states: different states after a power cut: a sample, and all states after the program reported success.
    """

    result: object
    before: dict[str, bytes]
    files: dict[str, bytes]
    changes: int
    states: list[State]


def undisturbed(program: Program, folder: Path) -> Undisturbed:
    """Run a program, and record its changes on the disk."""
    folder.mkdir()
    program.prepare(folder)
    before = contents(folder)
    with recording(folder) as recorded:
        result = program.run(folder)
    files = contents(folder)
    shutil.rmtree(folder)
    first = zlib.crc32(f"{program}".encode()) % EVERY
    tried = (*states(recorded, first=first, every=EVERY), *states(recorded, after=len(recorded.changes)))
    found = {(state.digest, state.changes == len(recorded.changes)): state for state in tried}
    return Undisturbed(result, before, files, len(recorded.changes), list(found.values()))


def harm_at_once(program: Program, folder: Path, right: Undisturbed, state: State) -> str:
    """Return what is wrong with the files after a power cut; an empty string if nothing is."""
    left = contents(folder)
    if program.changes and state.changes == right.changes and left != right.files:  # the program had reported success
        wrong = sorted(name for name in left.keys() | right.files.keys() if left.get(name) != right.files.get(name))
        return f"reported as done, and not as it should be: {', '.join(wrong)}"
    for place in program.promises:
        if harm := harm_of_a_set(folder / place, place, right, keeps=program.keeps):
            return harm
    return ""


def harm_of_a_set(folder: Path, place: str, right: Undisturbed, *, keeps: bool) -> str:
    """Return what is wrong with a folder in which a set is made or changed; an empty string if nothing is."""
    had = {name: name.endswith("manifest.json") for name in right.before if Path(name).parent == Path(place)}
    if (folder / "manifest.json").exists():
        # a marker beside a finished set is reported and harmless
        problems = [each for each in verify(folder).problems if each.kind != "unfinished file"]
        return f"a set that is taken for finished, and is not: {problems}" if problems else ""
    if keeps and any(had.values()):
        return "the set that was there has no manifest"
    if not had and folder.is_dir() and any(folder.glob("*.tar")):
        try:
            find_manifest(open_folder(folder))
        except ShardsError:
            return ""
        return "tars of an unfinished set, which are taken for those of another tool"
    return ""


def harms(program: Program, folder: Path, right: Undisturbed, tried: list[State]) -> Iterator[str]:
    """Return what is wrong with each of these states, and with the repeated command in each state."""
    for state in tried:
        folder.mkdir()
        state.write(folder)
        harm = harm_at_once(program, folder, right, state)
        if not harm:
            try:
                result = program.run(folder)
            except Exception as error:
                harm = f"the same command does not finish: {error!r}"
            else:
                same = contents(folder) == right.files if program.changes else result == right.result
                harm = "" if same else "another result after repeating"
        if harm:
            yield f"after change {state.changes} of {right.changes}; {state.lost} lost: {harm}"
        shutil.rmtree(folder)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_power_cut_keeps_reported_results_and_the_repeated_command_finishes(tmp_path: Path, program: Program):
    right = undisturbed(program, tmp_path / "set")

    with patch.object(os, "fsync"):  # the repeated run need not wait for the disk
        harmed = list(harms(program, tmp_path / "set", right, right.states))

    assert harmed == []


def test_shards_that_a_task_of_an_array_job_reported_can_be_committed_after_a_power_cut(tmp_path: Path):
    class_folders(tmp_path / "imgs", classes=2, each=4)
    folder = tmp_path / "set"
    folder.mkdir()

    def run_task(number: int) -> None:
        options = {"executor": "array", "task_index": number, "num_tasks": 2}
        pack(tmp_path / "imgs", folder / "out", shard_samples=4, workers=1, **options)

    with recording(folder) as recorded:
        run_task(0)
    tried = list(states(recorded, after=len(recorded.changes)))
    made = []
    for state in tried:
        shutil.rmtree(folder)
        folder.mkdir()
        state.write(folder)
        run_task(1)
        commit(folder / "out")
        made.append(contents(folder))

    assert sorted(made[0]) == [
        "out/index.npy",
        "out/labels.npy",
        "out/manifest.json",
        "out/shard-000000.tar",
        "out/shard-000001.tar",
    ]
    assert all(files == made[0] for files in made)


@pytest.mark.parametrize(
    ("command", "option", "name"),
    [
        ("preview", "--out", "sheet.png"),
        ("report", "--out", "report.html"),
        ("stats", "--plot", "charts.png"),
        ("stats", "--sample-weights", "weights.npy"),
    ],
)
def test_a_power_cut_leaves_the_old_picture_or_the_complete_new_one(
    tmp_path: Path, command: str, option: str, name: str
):
    if option == "--plot":
        pytest.importorskip("matplotlib")
    (tmp_path / name).write_bytes(b"old")

    with recording(tmp_path) as recorded:
        assert run(command, shard_set([3, 2]), option, tmp_path / name).code == 0
    found = {state.files.get(name) for state in states(recorded)}

    assert found == {b"old", (tmp_path / name).read_bytes()}
