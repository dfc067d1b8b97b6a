"""Changes to a folder that can be completed after an interruption: prepared aside, recorded, then done by moves.

New files are written to ``SET/.repair``. Then a journal in that folder lists every move, and from that moment on the
next run finishes interrupted moves. Moves that take files away come first, moves that put files in their places
follow, and the name of the journal tells the phase. So a later run can tell for each move whether it was done.
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
    """The moves of a change, with paths relative to the set's folder.

    Attributes:
        taken: pairs (from, to) of files that are moved away, each to an unused path.
        placed: names of files in `ASIDE` that are moved into the folder, in this order; they replace existing files.
        report: report of the changes, to be shown when all moves are done.
    """

    taken: tuple[tuple[str, str], ...]
    placed: tuple[str, ...]
    report: dict[str, Any]


def is_unfinished(folder: Folder) -> bool:
    """Whether changes of a folder were begun and not finished."""
    return folder.has(_TAKING) or folder.has(_PLACING)


class StagedChanges:
    """The changes of one folder, which only one process at a time may make."""

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
                    raise DataError(f"{where} is damaged ({error}); move the files beside it back by hand") from error
        return None

    def begin(self) -> None:
        """Empty the folder for prepared files, in which a run that stopped during preparation may have left files."""
        self._folder.check_writable()
        self.tidy()

    def aside(self, name: str) -> str:
        """Return the path at which a file of this final name is prepared."""
        return f"{ASIDE}/{name}"

    def carry_out(self, journal: Journal) -> None:
        """Do the moves of a journal, or the rest of them.

        Raises:
            StorageError: a file cannot be moved, or is missing. Repeating the call continues where this call stopped.
        """
        if not self._holds(_PLACING):
            self._folder.write(_TAKING, msgspec.json.encode(journal))
            for source, target in journal.taken:
                if not self._holds(target):
                    self._folder.move(source, target)
                elif self._are_copies(source, target):  # interrupted before the store removed the original
                    self._folder.delete(source)
            self._folder.move(_TAKING, _PLACING)
        self._folder.delete(_TAKING)
        for name in journal.placed:
            if self._holds(self.aside(name)):
                self._folder.move(self.aside(name), name)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder of prepared files, the journal first: files without a journal are ignored."""
        for name in (_TAKING, _PLACING):
            self._folder.delete(name)
        self._folder.delete_below(ASIDE)

    def _holds(self, name: str) -> bool:
        return self._folder.identity_now(name) is not None

    def _are_copies(self, source: str, target: str) -> bool:
        """Whether a file exists under both names with the same bytes."""
        one, other = self._folder.identity_now(source), self._folder.identity_now(target)
        if one is None or other is None or one.size != other.size:
            return False
        with self._folder.open_stream(source) as left, self._folder.open_stream(target) as right:
            while piece := left.read(1 << 20):
                if piece != right.read(1 << 20):
                    return False
        return True
