"""System calls that fail once, one after the other, to test the files that a failure leaves, as SQLite does."""

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
    """The failure of one system call.

    Args:
        at: Number of the call, from 0; None counts calls without a failure. "short" counts only reads and writes.
        below: Folder; calls about other files are not counted.
    """

    at: int | None
    below: Path
    how: How = "error"
    calls: list[Call] = field(default_factory=list)

    @property
    def call(self) -> Call | None:
        """Return the call that failed, if there was one."""
        return None if self.at is None or self.at >= len(self.calls) else self.calls[self.at]

    def before(self, call: Call) -> bool:
        """Count a call, and let it fail if its number has come."""
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
    """Let one system call of this process fail."""
    with observing(failure.below, failure):
        yield failure
