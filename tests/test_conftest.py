"""The rules that conftest lays on every test hold."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
Run = Callable[[str], pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a module of tests under the rules, in a process of its own."""

    def run(body: str) -> pytest.RunResult:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        pytester.makeconftest("from tests.conftest import nothing_left_behind, pytest_runtest_setup")
        pytester.makepyfile(f"import os, threading\nimport pytest\n{body}")
        return pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider")

    return run


def test_a_file_left_open_fails_the_test(run: Run):
    result = run("def test(): os.open(__file__, os.O_RDONLY)")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*left behind: file */test_a_file*.py (descriptor *")


def test_a_thread_left_running_fails_the_test(run: Run):
    result = run("""
woken = threading.Event()

@pytest.fixture(scope="module", autouse=True)
def exit_is_not_held_up():
    yield
    woken.set()

def test(): threading.Thread(target=woken.wait, name="reader").start()
""")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*left behind: thread reader*")


def test_a_daemon_of_ours_left_running_fails_the_test(run: Run):
    result = run("""
def test(): threading.Thread(target=threading.Event().wait, name="mps-shards-0", daemon=True).start()
""")

    result.assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "harmless",
    [
        "def test():\n    with open(__file__): pass",
        "def test():\n    thread = threading.Thread(target=int)\n    thread.start()\n    thread.join()",
        "def test(): threading.Thread(target=threading.Event().wait, name='theirs', daemon=True).start()",
        "def test(): os.pipe()",
    ],
)
def test_what_is_closed_or_not_ours_is_let_pass(run: Run, harmless: str):
    run(harmless).assert_outcomes(passed=1)


def test_a_file_that_only_a_cycle_holds_is_not_left_behind(run: Run):
    result = run("""
class Holder:
    def __init__(self):
        self.descriptor, self.me = os.open(__file__, os.O_RDONLY), self
    def __del__(self):
        os.close(self.descriptor)

def test(): Holder()
""")

    result.assert_outcomes(passed=1)


def test_a_test_of_an_absent_device_is_skipped_with_the_reason(run: Run):
    result = run("""
import torch

@pytest.mark.skipif(torch.backends.mps.is_available(), reason="mps is here")
@pytest.mark.mps
def test(): pass
""")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("*SKIPPED*mps*here*")
