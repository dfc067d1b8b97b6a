"""Calls of the operating system that fail once, in turn: SQLite's way of testing what is left behind."""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

__all__ = ["Failure", "failing"]

# Called by name at every use, so that replacing them is enough. Writes go through files that `open` has made.
_CALLS = ("fsync", "link", "mkdir", "open", "pread", "rename", "replace", "rmdir", "unlink")


@dataclass
class Failure:
    """What to do at one call.

    Args:
        at: The number of the call, from 0; None only counts.
        kill: End the process there, as a power cut would end it, instead of raising an error of the disk.
        below: Only calls about files below this folder, or about open descriptors.
    """

    at: int | None
    below: Path
    kill: bool = False
    calls: list[str] = field(default_factory=list)

    def step(self, name: str, *about: object) -> None:
        """Count a call; fail if it is its turn."""
        if about and not any(str(each).startswith(str(self.below)) for each in about):
            return
        self.calls.append(name)
        if len(self.calls) - 1 == self.at:
            if self.kill:
                os._exit(9)
            raise OSError(errno.EIO, f"injected at {name}")


@contextmanager
def failing(failure: Failure) -> Iterator[Failure]:
    """Let one call of this process fail as told."""
    with ExitStack() as patches:
        for name in _CALLS:
            patches.enter_context(patch.object(os, name, _watched(failure, name, getattr(os, name))))
        opened = _opened(failure, builtins.open)
        patches.enter_context(patch.object(builtins, "open", opened))
        patches.enter_context(patch.object(io, "open", opened))
        yield failure


def _watched(failure: Failure, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any, **options: Any) -> Any:
        about = [each for each in arguments if isinstance(each, str | Path)]
        failure.step(name, *about)
        return call(*arguments, **options)

    return watched


def _opened(failure: Failure, call: Callable[..., Any]) -> Callable[..., Any]:
    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if isinstance(file, int) or not str(file).startswith(str(failure.below)):
            return call(file, mode, *arguments, **options)
        failure.step(f"open for {mode}", file)
        made = call(file, mode, *arguments, **options)
        return _Writing(made, failure) if set(mode) & set("wxa+") else made

    return opened


class _Writing:
    """A file whose writes may fail, half of them done."""

    def __init__(self, file: Any, failure: Failure):
        self._file, self._failure = file, failure

    def write(self, content: Any) -> Any:
        try:
            self._failure.step("write")
        except OSError:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)

    def writelines(self, contents: Any) -> None:
        for content in contents:
            self.write(content)

    def __enter__(self) -> "_Writing":
        self._file.__enter__()
        return self

    def __exit__(self, *failure: Any) -> Any:
        return self._file.__exit__(*failure)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
