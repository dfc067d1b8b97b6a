"""Rules for every test: nothing left behind, reproducible examples, devices only where there are some."""

import functools
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leaks
from tools.scripts.photos import make_photos

# Time is no verdict: machines that run this differ tenfold.
settings.register_profile("here", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


# A shell that runs the tests in the background has SIGINT ignored, and so would all programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def quick_collections() -> None:
    """What the imports made stays for ever: the collections between tests need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread running or a file open."""
    before = leaks.threads() | leaks.files()

    yield

    if left := (leaks.threads() | leaks.files()) - before:
        gc.collect()  # what only a reference cycle still holds is not left behind
        left &= leaks.threads() | leaks.files()
    assert not left, f"left behind: {', '.join(sorted(left))}"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 real photographs: four classes of 15, brick is grey. For reading only: all tests share it."""
    folder = tmp_path_factory.mktemp("photos")
    make_photos(folder, count=60, size=(96, 80), classes=["brick", "cat", "coffee", "flower"])
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a device that is not here."""
    for device in ("mps", "cuda"):
        if item.get_closest_marker(device) and (reason := why_absent(device)):
            pytest.skip(reason)


@functools.cache
def why_absent(device: str) -> str:
    """Why no tensor can be put on the device; empty if one can. Asking torch is not enough, so one is put there."""
    import torch

    try:
        torch.ones(1, device=device).cpu()
    except (AssertionError, RuntimeError, Warning) as error:  # which one depends on how torch was built
        first_sentence, _, _ = str(error).partition(". ")
        return f"no {device} here: {first_sentence}"
    return ""
