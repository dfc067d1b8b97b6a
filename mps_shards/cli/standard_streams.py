"""Standard output and error for a whole command: whatever becomes of their readers, the work goes on.

* A stream that was closed when the process began (``2>&-``) goes nowhere, and no file opened later gets its number.
* Nobody reads the output any more (``ls | head``): the command ends as by SIGPIPE, and says nothing.
* Output that cannot be written (``> /dev/full``) is an error. What cannot be written to stderr is left out.
* Characters that the locale's encoding lacks are replaced, bars by ``#``.
"""

import codecs
import errno
import io
import os
import signal
import sys
from collections.abc import Iterable
from typing import TextIO

from mps_shards.errors import StorageError

__all__ = ["OutputError", "prepare_streams"]

_PLAIN = {"…": "...", "█": "#"}
_REPLACED = "mps_shards.replaced"


class OutputError(StorageError):
    """Standard output cannot be written to."""


def prepare_streams() -> None:
    """Replace `sys.stdout` and `sys.stderr` for the rest of this process."""
    codecs.register_error(_REPLACED, _replaced)
    for number in range(3):
        _open_if_closed(number)
    sys.stdout = _text(_Stdout(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(2, "w", closefd=False), sys.stderr)


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        os.set_inheritable(number, True)


class _Stream(io.FileIO):
    """A descriptor that is written to no more once writing has failed."""

    failed = False

    def write(self, content: "bytes | memoryview") -> int:  # type: ignore[override]  # FileIO takes any buffer
        if not self.failed:
            try:
                return super().write(content)
            except OSError as error:
                self.failed = True
                self.on_failure(error)
        return len(content)

    def on_failure(self, error: OSError) -> None:
        """Called once."""


class _Stderr(_Stream):
    """Holds messages only: the work does not depend on them."""


class _Stdout(_Stream):
    def on_failure(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)  # as an exception, so that every block can clean up
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


class _AsciiText(io.TextIOWrapper):
    """Text as ASCII. Its encoding has another name because click writes UTF-8 to streams that call themselves ASCII."""

    def write(self, text: str) -> int:
        return super().write(text.encode("ascii", _REPLACED).decode())


def _text(stream: _Stream, before: TextIO | None) -> TextIO:
    """A text stream with the encoding of the one that it replaces; None stands for one that was closed."""
    encoding = before.encoding if before is not None else "utf-8"
    is_ascii = codecs.lookup(encoding).name == "ascii"
    is_line_buffered = stream.isatty() or stream.fileno() == 2
    buffered = io.BufferedWriter(stream)  # type: ignore[type-var]  # typeshed wants a writer that takes any buffer
    if is_ascii:
        return _AsciiText(buffered, "latin-1", errors=_REPLACED, line_buffering=is_line_buffered)
    return io.TextIOWrapper(buffered, encoding, errors=_REPLACED, line_buffering=is_line_buffered)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """An error handler for codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking: Iterable[str] = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
