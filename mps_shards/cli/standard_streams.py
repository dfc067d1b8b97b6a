"""Standard output and standard error of a command, also where they are closed, full, or not read to the end.

* A stream that was closed when the process began (``2>&-``) is opened on /dev/null, so that no file gets its number.
* If the reader of the output has ended (``ls | head``), the command ends as by SIGPIPE, without a message.
* Output that cannot be written (``> /dev/full``) is an error. Messages that cannot be written to stderr are dropped.
* Characters that the locale's encoding lacks are replaced; bars are drawn with ``#``.
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
    sys.stderr = _text(_Stream(2, "w", closefd=False), sys.stderr)


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
    """A file descriptor whose output is dropped after the first write that failed."""

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
        """Do nothing about the first failed write: a command does not depend on its messages."""


class _Stdout(_Stream):
    def on_failure(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            sys.exit(128 + signal.SIGPIPE)  # raises SystemExit, so that every `with` block can clean up
        raise OutputError(f"cannot write to standard output: {error.strerror}") from None


class _AsciiText(io.TextIOWrapper):
    """A text stream that writes ASCII under another name, because click writes UTF-8 to streams named ASCII."""

    def write(self, text: str) -> int:
        return super().write(text.encode("ascii", _REPLACED).decode())


def _text(stream: _Stream, before: TextIO | None) -> TextIO:
    """Return a text stream with the encoding of the stream that it replaces; None stands for a closed stream."""
    encoding = before.encoding if before is not None else "utf-8"
    is_ascii = codecs.lookup(encoding).name == "ascii"
    is_line_buffered = stream.isatty() or stream.fileno() == 2
    buffered = io.BufferedWriter(stream)  # type: ignore[type-var]  # typeshed wants a writer that takes any buffer
    if is_ascii:
        return _AsciiText(buffered, "latin-1", errors=_REPLACED, line_buffering=is_line_buffered)
    return io.TextIOWrapper(buffered, encoding, errors=_REPLACED, line_buffering=is_line_buffered)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Return a substitute for characters that cannot be encoded, as an error handler of `codecs` does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking: Iterable[str] = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
