"""What a command says when it fails: one line that names the file, the cause, and what to do."""

import errno
import os

from mps_shards.errors import ShardsError
from mps_shards.wording import printable

__all__ = ["EXPECTED", "message_of"]

# What a command reports without a traceback. All else is a defect of this package.
EXPECTED = (ShardsError, OSError, UnicodeEncodeError, MemoryError)

_ADVICE = {
    errno.EACCES: "grant this user access to it and to the folders above it",
    errno.EPERM: "grant this user access to it and to the folders above it",
    errno.ENAMETOOLONG: "shorten it: most disks take 255 bytes for a name, and systems 4,095 for a path",
    errno.ELOOP: "a link leads back to itself; remove it, or name another place",
    errno.ENOSPC: "free some space, or name a place on another disk",
    errno.EDQUOT: "free some of this user's space, or name a place on another disk",
    errno.EFBIG: "allow larger files (`ulimit -f`), or make smaller shards (--shard-size)",
    errno.EROFS: "name a place on a disk that can be written to",
    errno.EIO: "the disk, or the connection to it, has a fault; check it before you go on",
}


def message_of(error: BaseException) -> str:
    """The line, and the notes of the error under it, each indented."""
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    return f"{_said(error)}{_advice(error)}{notes}"


def _said(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory; use fewer --workers, or free some"
    if isinstance(error, UnicodeEncodeError):
        return (
            f"the file name {error.object!a} cannot be written in this locale, whose encoding is "
            f"{error.encoding}; set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
        )
    if isinstance(error, ShardsError) or not isinstance(error, OSError):
        return str(error)
    return f"{printable(os.fsdecode(error.filename))}: {error.strerror}" if error.filename else str(error)


def _advice(error: BaseException) -> str:
    """What to do about the system's error behind this one, if that is known."""
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in seen:  # an error can be its own cause
        if isinstance(step, OSError) and step.errno is not None:
            advice = _ADVICE.get(step.errno, "")
            return f"; {advice}" if advice else ""
        seen.append(step)
        step = step.__cause__
    return ""
