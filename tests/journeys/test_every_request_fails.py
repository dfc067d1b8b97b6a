"""Every request to a store fails once, loses its response, or is the last before a kill: an error or the right result.

Afterwards the repeated program gives the result of an undisturbed run. The tests try a sample of the requests; ``make
faults`` tries all of them.
"""

import itertools
import os
import traceback
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mps_shards.errors import ShardsError, StorageError
from mps_shards.packing.destinations.destination import STATE
from mps_shards.shardset.verification import verify
from mps_shards.storage.location import open_folder
from mps_shards.storage.store_options import StoreOptions
from tests.support.failing_store import HOWS, StoreFailure, StoreHow, StoreRequest, failing_store
from tests.support.files import contents
from tests.support.proxy import proxy
from tests.support.store_programs import STORE_PROGRAMS, Place, StoreProgram
from tools.support import stores

EVERY = int(os.environ.get("MPS_SHARDS_FAULTS_EVERY", "251"))
ONCE = StoreOptions(attempts=1)
PATIENT = StoreOptions(first_wait_s=0.001)  # the default options with short waits

Files = dict[str, object]  # contents of local files, or sizes and etags of files in a store
Try = tuple[StoreOptions, StoreHow, int, StoreRequest]

pytestmark = pytest.mark.usefixtures("address")


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """Result of an undisturbed program: its return value, its files, and the requests that it sends."""

    result: object
    files: Files
    requests: list[StoreRequest]


def new_places(program: StoreProgram, folder: Path) -> Iterator[Place]:
    """Return empty places. Programs that only read share a prefix, because caches depend on its name."""
    prefix = f"s3://{stores.BUCKET}/{folder.name}"
    for number in itertools.count():
        yield Place(folder / str(number), f"{prefix}-{number}" if program.changes else prefix, ONCE)


def files_of(place: Place) -> Files:
    """Return every file of a place."""
    stored = {f"store/{name}": identity for name, identity in open_folder(place.url).below().items()}
    return {**contents(place.folder), **stored}


def prepared(program: StoreProgram, place: Place) -> Place:
    """Prepare the input of a program, and return its place."""
    place.folder.mkdir()
    program.prepare(place)
    return place


def undisturbed(program: StoreProgram, place: Place) -> Undisturbed:
    """Run a program without failures, and return its result."""
    prepared(program, place)
    with failing_store(StoreFailure()) as counted:
        result = program.run(place)
    return Undisturbed(result, files_of(place), counted.requests)


def end_by_failure(program: StoreProgram, place: Place, failure: StoreFailure) -> None:
    """Run a program in a child process until the failure ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads; the thread for requests is started again
        child = os.fork()
    if not child:
        try:
            with failing_store(failure):
                program.run(place)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the child was not killed"


def harm_at_once(program: StoreProgram, place: Place, failure: StoreFailure, right: Undisturbed) -> str:
    """Return what is wrong directly after a failure; an empty string if nothing is."""
    if failure.how == "kill":
        end_by_failure(program, place, failure)
        return ""
    try:
        with failing_store(failure):
            result = program.run(place)
    except ShardsError as error:
        said = "\n".join([str(error), *getattr(error, "__notes__", [])])
        if place.options.attempts > 1:
            return f"an error, though another attempt would have succeeded: {said}"
        return "" if place.url in said else f"an error that names no address: {said}"
    except BaseException as error:
        return f"a traceback: {error!r}"
    # the state of a pack may stay behind in a finished set, where it does no harm
    left = {name: content for name, content in files_of(place).items() if f"{STATE}/" not in name}
    files = {name: content for name, content in right.files.items() if f"{STATE}/" not in name}
    return "" if (result, left) == (right.result, files) else "another result, and no error"


def harm_later(program: StoreProgram, place: Place, right: Undisturbed) -> str:
    """Return what is wrong with the files after a failure and with a repeated run; an empty string if nothing is."""
    for name in program.promises:
        folder = open_folder(f"{place.url}/{name}")
        if folder.has("manifest.json"):
            # a marker beside a finished set is reported and harmless
            problems = [each for each in verify(folder).problems if each.kind != "unfinished file"]
            if problems:
                return f"a set that is taken for finished, and is not: {problems}"
    try:
        result = program.run(place)
    except Exception as error:
        return f"the same call does not finish: {error!r}"
    same = files_of(place) == right.files and (result == right.result or program.changes)
    return "" if same else "another result after repeating"


def harms(program: StoreProgram, places: Iterator[Place], right: Undisturbed, tried: Iterable[Try]) -> list[str]:
    """Return what is wrong after each of these failures, one after the other."""
    harmed = []
    for options, how, at, request in tried:
        place = replace(prepared(program, next(places)), options=options)
        if harm := harm_at_once(program, place, StoreFailure(at, how), right) or harm_later(program, place, right):
            harmed.append(f"{how} at request {at}, {request}, of {options.attempts} attempts: {harm}")
    return harmed


def failures(right: Undisturbed) -> list[Try]:
    """Return every request with each of its failures, permanent and temporary."""
    found = []
    for how in HOWS:
        requests = [each for each in right.requests if each.can_fail(how)]
        for options in {"kill": (PATIENT,), "denied": (ONCE,)}.get(how, (ONCE, PATIENT)):
            found += [(options, how, at, request) for at, request in enumerate(requests)]
    return found


@pytest.mark.parametrize("program", STORE_PROGRAMS, ids=str)
def test_a_failure_is_an_error_or_harmless_and_the_same_call_finishes(tmp_path: Path, program: StoreProgram):
    places = new_places(program, tmp_path)
    right = undisturbed(program, next(places))
    tried = failures(right)
    first = zlib.crc32(f"{program}".encode()) % min(EVERY, len(tried))

    harmed = harms(program, places, right, tried[first::EVERY])

    assert harmed == []


@pytest.mark.parametrize("may_list", [True, False])
def test_a_manifest_to_which_access_is_denied_is_missing_only_in_a_folder_that_cannot_be_listed(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, may_list: bool
):
    url = f"s3://{stores.BUCKET}/{tmp_path.name}"
    open_folder(url).write("manifest.json", b"{}")

    def fault(asked: str, number: int) -> int | None:
        return 403 if asked.startswith("HEAD") or ("list-type" in asked and not may_list) else None

    with proxy(address, fault) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        if may_list:
            with pytest.raises(StorageError, match=r"manifest\.json: access denied"):
                open_folder(url).has("manifest.json")
        else:
            assert not open_folder(url).has("manifest.json")
