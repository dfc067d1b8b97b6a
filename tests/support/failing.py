"""Calls of the operating system that fail once, in turn: SQLite's way of testing what is left behind."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.os_calls import Call, observing

__all__ = ["Failure", "How", "failing"]

# "error" raises an error of the disk, after half of a write; "short" lets half of the bytes of a read or write pass,
# which is no error; "kill" ends the process there, after half of a write.
How = Literal["error", "short", "kill"]


@dataclass
class Failure:
    """What to do at one call.

    Args:
        at: The number of the call, from 0; None only counts. Of "short", reads and writes alone are counted.
        below: Only calls about files below this folder.
    """

    at: int | None
    below: Path
    how: How = "error"
    calls: list[Call] = field(default_factory=list)

    @property
    def call(self) -> Call | None:
        """The call that failed, if it came to that."""
        return None if self.at is None or self.at >= len(self.calls) else self.calls[self.at]

    def before(self, call: Call) -> bool:
        """Count a call; fail if it is its turn."""
        if self.how == "short" and not call.transfers:
            return False
        self.calls.append(call)
        if len(self.calls) - 1 != self.at:
            return False
        if self.how == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO), *([] if call.descriptor >= 0 else [call.path]))
        if self.how == "kill":
            if call.content:
                os.pwrite(call.descriptor, call.content[: len(call.content) // 2], call.offset)
            os._exit(9)
        return True

    def after(self, call: Call) -> None:
        """See `Observer`."""


@contextmanager
def failing(failure: Failure) -> Iterator[Failure]:
    """Let one call of this process fail as told."""
    with observing(failure.below, failure):
        yield failure
