"""Whatever call of the disk fails, or is the last before a kill: an error or the right result, and a repeat finishes.

Every ninth call is tried here; ``make faults`` tries all of them.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mps_shards import pack
from mps_shards.errors import ShardsError
from mps_shards.shardset.indexing import adopt
from mps_shards.shardset.unpacking import unpack
from mps_shards.shardset.verification import verify
from tests.support.failing import Failure, failing
from tests.support.files import contents
from tests.support.foreign import by_tarfile
from tests.support.images import class_folders, tiny_jpeg
from tests.support.sets import shard_set

EVERY = int(os.environ.get("MPS_SHARDS_FAULTS_EVERY", "9"))


def packing(folder: Path) -> None:
    pack(folder / "imgs", folder / "out", shard_samples=4, workers=1)


def indexing(folder: Path) -> None:
    if not (folder / "out/manifest.json").exists():
        adopt(folder / "out")


def unpacking(folder: Path) -> None:
    unpack(folder / "set", folder / "out", workers=1)


def prepared(folder: Path) -> Path:
    """What all of them work on."""
    class_folders(folder / "imgs", classes=2, each=4)
    (folder / "out").mkdir()
    shutil.copytree(shard_set([3, 2]), folder / "set")
    return folder


def prepared_tars(folder: Path) -> Path:
    prepared(folder)
    for name in "ab":
        by_tarfile(folder / f"out/{name}.tar", {f"{name}{n}": {"cls": b"1", "jpg": tiny_jpeg(n)} for n in range(3)})
    return folder


PROGRAMS = [(packing, prepared), (indexing, prepared_tars), (unpacking, prepared)]


def dies(program: Callable[[Path], None], failure: Failure) -> None:
    """Run a program in a child process until the failure ends it."""
    child = os.fork()
    if not child:
        try:
            with failing(failure):
                program(failure.below)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize(("program", "prepare"), PROGRAMS, ids=lambda each: each.__name__)
def test_a_failure_is_an_error_or_harmless_and_the_same_call_finishes(
    tmp_path: Path, program: Callable[[Path], None], prepare: Callable[[Path], Path], kill: bool
):
    (tmp_path / "right").mkdir()
    right = prepare(tmp_path / "right")
    with failing(Failure(None, right)) as counted:
        program(right)
    expected = contents(right / "out")
    harmed = []

    for at in range(int(kill), len(counted.calls), EVERY):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        prepare(folder)
        failure = Failure(at, folder, kill=kill)
        said = None
        if kill:
            dies(program, failure)
        else:
            try:
                with failing(failure):
                    program(folder)
            except ShardsError as error:
                said = str(error)
            except BaseException as error:
                harmed.append((at, counted.calls[at], repr(error)))
        finished = (folder / "out/manifest.json").exists()
        # a marker that is left beside a finished set is told, and harmless
        if finished and any(problem.kind != "unfinished file" for problem in verify(folder / "out").problems):
            harmed.append((at, counted.calls[at], "taken for finished"))
        program(folder)
        if contents(folder / "out") != expected:
            harmed.append((at, counted.calls[at], f"differs after repeating ({said})"))
        shutil.rmtree(folder)

    assert harmed == []
