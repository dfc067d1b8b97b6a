"""Every system call for files fails once, is cut short, or is the last before a kill: an error or the right result.

Afterwards the repeated program gives the result of an undisturbed run. The tests try a sample of the calls; ``make
faults`` tries all of them.
"""

import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mps_shards.errors import ShardsError
from mps_shards.packing.destinations.destination import STATE
from mps_shards.shardset.verification import verify
from tests.support.disk_programs import PROGRAMS, Program
from tests.support.failing import Failure, How, failing
from tests.support.files import contents
from tests.support.os_calls import Call

EVERY = int(os.environ.get("MPS_SHARDS_FAULTS_EVERY", "97"))


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """Result of an undisturbed program: its return value, its files, and the calls that can fail."""

    result: object
    files: dict[str, bytes]
    calls: list[Call]


def undisturbed(program: Program, folder: Path, how: How) -> Undisturbed:
    """Run a program without failures, and return its result."""
    folder.mkdir()
    program.prepare(folder)
    with failing(Failure(None, folder, how)) as counted:
        result = program.run(folder)
    files = contents(folder)
    shutil.rmtree(folder)
    return Undisturbed(result, files, counted.calls)


def end_by_failure(run: Callable[[Path], object], failure: Failure) -> None:
    """Run a program in a child process until the failure ends it."""
    child = os.fork()
    if not child:
        try:
            with failing(failure):
                run(failure.below)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def names_a_file(said: str, failure: Failure) -> bool:
    """Whether a message names a file: the file that failed, its final file, or its path."""
    call = failure.call
    assert call is not None
    names = {Path(path).name for path in (call.path, call.target) if path}
    names |= {re.sub(r"^\.|\.new$|(\.[0-9a-f]{8})?\.part$", "", name) for name in names}
    return str(failure.below) in said or any(name in said for name in names)


def harm_at_once(program: Program, failure: Failure, right: Undisturbed) -> str:
    """Return what is wrong directly after a failure; an empty string if nothing is."""
    if failure.how == "kill":
        end_by_failure(program.run, failure)
        return ""
    try:
        with failing(failure):
            result = program.run(failure.below)
    except ShardsError as error:
        said = "\n".join([str(error), *getattr(error, "__notes__", [])])
        if failure.how == "short":
            return f"an error, though nothing failed: {said}"
        return "" if names_a_file(said, failure) else f"an error that names no file: {said}"
    except BaseException as error:
        return f"a traceback: {error!r}"
    # the state of a pack may stay behind in a finished set, where it does no harm
    left = {name: content for name, content in contents(failure.below).items() if f"{STATE}/" not in name}
    return "" if (result, left) == (right.result, right.files) else "another result, and no error"


def harm_later(program: Program, folder: Path, right: Undisturbed) -> str:
    """Return what is wrong with the files after a failure and with a repeated run; an empty string if nothing is."""
    for place in program.promises:
        if (folder / place / "manifest.json").exists():
            # a marker beside a finished set is reported and harmless
            problems = [each for each in verify(folder / place).problems if each.kind != "unfinished file"]
            if problems:
                return f"a set that is taken for finished, and is not: {problems}"
    result = program.run(folder)
    same = contents(folder) == right.files and (result == right.result or program.changes)
    return "" if same else "another result after repeating"


def harms(program: Program, folder: Path, how: How, right: Undisturbed, numbers: Iterable[int]) -> list[str]:
    """Return what is wrong after a failure at each of these calls, one after the other."""
    harmed = []
    for at in numbers:
        folder.mkdir()
        program.prepare(folder)
        failure = Failure(at, folder, how)
        if harm := harm_at_once(program, failure, right) or harm_later(program, folder, right):
            harmed.append(f"{how} at call {at}, {right.calls[at]}: {harm}")
        shutil.rmtree(folder)
    return harmed


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("how", ["error", "short", "kill"])
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_failure_is_an_error_or_harmless_and_the_same_call_finishes(tmp_path: Path, program: Program, how: How):
    right = undisturbed(program, tmp_path / "set", how)
    first = zlib.crc32(f"{program} {how}".encode()) % min(EVERY, len(right.calls))

    harmed = harms(program, tmp_path / "set", how, right, range(first, len(right.calls), EVERY))

    assert harmed == []


@pytest.mark.parametrize("name", ["append", "index labels", "repair, a flipped bit"])
def test_a_file_with_a_temporary_read_error_is_not_treated_as_missing_or_wrong(tmp_path: Path, name: str):
    (program,) = (each for each in PROGRAMS if each.name == name)
    right = undisturbed(program, tmp_path / "set", "error")
    reads = [
        number
        for number, call in enumerate(right.calls)
        if call.name in ("open", "stat") and not call.is_new and call.path.endswith(("index.npy", "labels.npy", "/out"))
    ]

    harmed = harms(program, tmp_path / "set", "error", right, reads)

    assert (harmed, len(reads) > 1) == ([], True)
