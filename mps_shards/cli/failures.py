"""Error messages of commands: one line that names the file, the cause, and what to do."""

import errno
import os

from mps_shards.errors import ShardsError
from mps_shards.wording import printable

__all__ = ["EXPECTED", "message_of"]

# Errors that a command reports without a traceback. Any other error is a defect of this package.
EXPECTED = (ShardsError, OSError, UnicodeEncodeError, MemoryError)

_ADVICE = {
    errno.EACCES: "grant this user access to it and to the folders above it",
    errno.EPERM: "grant this user access to it and to the folders above it",
    errno.ENAMETOOLONG: "shorten it: most disks allow 255 bytes for a name and 4,095 bytes for a path",
    errno.ELOOP: "a link leads back to itself; remove the link, or name another place",
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some of this user's space, or name a place on another disk",
    errno.EFBIG: "allow larger files (`ulimit -f`), or make smaller shards (--shard-size)",
    errno.EROFS: "name a place on a disk that can be written to",
    errno.EIO: "the disk, or the connection to it, has a fault; check the disk before you continue",
}


def message_of(error: BaseException) -> str:
    """Return an error as one line of cause and advice, with the notes of the error below it, each indented."""
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    return f"{_cause(error)}{_advice(error)}{notes}"


def _cause(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory; use fewer --workers, or free some memory"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"the file name {error.object!a} cannot be written in this locale, whose encoding is "
            f"{error.encoding}; set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
        )
    if isinstance(error, ShardsError) or not isinstance(error, OSError):
        return str(error)
    return f"{printable(os.fsdecode(error.filename))}: {error.strerror}" if error.filename else str(error)


def _advice(error: BaseException) -> str:
    """Return what to do about the system error that caused this error; an empty string if that is not known."""
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in seen:  # an error can be its own cause
        if isinstance(step, OSError) and step.errno is not None:
            advice = _ADVICE.get(step.errno, "")
            return f"; {advice}" if advice else ""
        seen.append(step)
        step = step.__cause__
    return ""
