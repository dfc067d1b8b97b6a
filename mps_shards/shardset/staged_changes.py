"""Changes to a folder that end as if nobody had stopped them: prepared aside, written down, then done by moves.

New files are made in ``SET/.repair``. Then a journal there lists every move, and from that moment on the moves are
finished by whoever comes next. Moves that take files away come first, moves that put files in their places follow, and
the name of the journal says which of the two is going on: so each move can be seen to be done, or not, at any time.
"""

from typing import Any

import msgspec

from mps_shards.errors import DataError
from mps_shards.storage.folder import Folder, WritableFolder

__all__ = ["ASIDE", "Journal", "StagedChanges", "is_unfinished"]

ASIDE = ".repair"
_TAKING, _PLACING = f"{ASIDE}/taking.json", f"{ASIDE}/placing.json"
_MAX_JOURNAL = 1 << 28  # bytes: a million shards need 100 MB


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is left to do, by paths relative to the set's folder.

    Attributes:
        taken: (from, to) of each file that is moved away, to a path where no file is.
        placed: names of files in `ASIDE` that are moved into the folder, in this order; they replace what is there.
        report: whatever is to be said of the changes when they are done.
    """

    taken: tuple[tuple[str, str], ...]
    placed: tuple[str, ...]
    report: dict[str, Any]


def is_unfinished(folder: Folder) -> bool:
    """Whether changes of a folder were begun and are not done."""
    return folder.has(_TAKING) or folder.has(_PLACING)


class StagedChanges:
    """The changes of one folder. One process at a time."""

    def __init__(self, folder: WritableFolder):
        self._folder = folder

    def unfinished(self) -> Journal | None:
        """Return the changes that an earlier run began to carry out, if any.

        Raises:
            DataError: the journal is damaged.
        """
        for name in (_TAKING, _PLACING):
            content = self._folder.read_now(name, max_bytes=_MAX_JOURNAL)
            if content is not None:
                try:
                    return msgspec.json.decode(content, type=Journal)
                except msgspec.MsgspecError as error:
                    where = self._folder / name
                    raise DataError(f"{where} is damaged ({error}); put the files beside it back by hand") from error
        return None

    def begin(self) -> None:
        """Make room to prepare files; what a run prepared that never carried them out is removed."""
        self._folder.check_writable()
        self.tidy()

    def aside(self, name: str) -> str:
        """Where a file is prepared that is to have this name."""
        return f"{ASIDE}/{name}"

    def carry_out(self, journal: Journal) -> None:
        """Do what has been prepared, or finish it.

        Raises:
            StorageError: a file cannot be moved, or is gone. The same call goes on where this one ended.
        """
        if not self._holds(_PLACING):
            self._folder.write(_TAKING, msgspec.json.encode(journal))
            for source, target in journal.taken:
                if not self._holds(target):
                    self._folder.move(source, target)
                elif self._are_copies(source, target):  # a store had not removed the original yet
                    self._folder.delete(source)
            self._folder.move(_TAKING, _PLACING)
        self._folder.delete(_TAKING)
        for name in journal.placed:
            if self._holds(self.aside(name)):
                self._folder.move(self.aside(name), name)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder aside; the journal first, as what is left without one means nothing."""
        for name in (_TAKING, _PLACING):
            self._folder.delete(name)
        self._folder.delete_below(ASIDE)

    def _holds(self, name: str) -> bool:
        return self._folder.identity_now(name) is not None

    def _are_copies(self, source: str, target: str) -> bool:
        """Whether a file is still there under its old name, too: then both hold the same bytes."""
        one, other = self._folder.identity_now(source), self._folder.identity_now(target)
        if one is None or other is None or one.size != other.size:
            return False
        with self._folder.open_stream(source) as left, self._folder.open_stream(target) as right:
            while piece := left.read(1 << 20):
                if piece != right.read(1 << 20):
                    return False
        return True
