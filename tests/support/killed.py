"""Kills a process at each call that changes a folder, one after the other, as `kill -9` does."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def is_killed(work: Callable[[], object], folder: Path, *, before: int) -> bool:
    """Run `work` in a child process that is killed before its change with this number, from 0 on.

    A change is a file that is opened for writing, synced, renamed or removed, or a folder that is made or removed.

    Returns:
        Whether the child was killed; False if it had finished before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about the threads of pytest-xdist
        child = os.fork()
    if child == 0:
        try:
            _kill_before(before, os.fspath(folder))
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, "the child failed; see its traceback above"
    return False


def _kill_before(number: int, folder: str) -> None:
    seen = 0

    def count() -> None:
        nonlocal seen
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder) and (flags or 0) & _WRITING:
                count()
        elif event in _CHANGES:
            count()

    def synced(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        count()
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = synced
