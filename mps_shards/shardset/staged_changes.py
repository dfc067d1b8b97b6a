"""Changes to a folder that end as if nobody had stopped them: prepared aside, written down, then done by moves.

New files are made in ``SET/.repair``. Then a journal there lists every move, and from that moment on the moves are
finished by whoever comes next. Moves that take files away come first, moves that put files in their places follow, and
the name of the journal says which of the two is going on: so each move can be seen to be done, or not, at any time.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mps_shards.errors import DataError, StorageError
from mps_shards.storage.local_disk import replacing, sync_folder

__all__ = ["ASIDE", "Journal", "StagedChanges"]

ASIDE = ".repair"
_TAKING, _PLACING = "taking.json", "placing.json"


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


class StagedChanges:
    """The changes of one folder. One process at a time."""

    def __init__(self, folder: Path):
        self._folder, self._aside = folder, folder / ASIDE

    def is_unfinished(self) -> bool:
        """Whether changes were begun and are not done."""
        return any((self._aside / name).exists() for name in (_TAKING, _PLACING))

    def unfinished(self) -> Journal | None:
        """The changes that somebody began to carry out, if any.

        Raises:
            DataError: the journal is damaged.
        """
        for name in (_TAKING, _PLACING):
            path = self._aside / name
            if path.exists():
                try:
                    return msgspec.json.decode(path.read_bytes(), type=Journal)
                except msgspec.MsgspecError as error:
                    raise DataError(f"{path} is damaged ({error}); put the files beside it back by hand") from error
        return None

    def begin(self) -> None:
        """Make room to prepare files; what a run prepared that never carried them out is removed."""
        self.tidy()
        try:
            self._aside.mkdir()
        except OSError as error:
            raise StorageError(f"cannot write to {self._folder}: {error.strerror}") from error

    def path(self, name: str) -> Path:
        """Where a file is prepared that is to have this name."""
        return self._aside / name

    def write(self, name: str, content: bytes) -> None:
        """Prepare a small file."""
        with replacing(self.path(name)) as file:
            file.write(content)

    def carry_out(self, journal: Journal) -> None:
        """Do what has been prepared, or finish it.

        Raises:
            StorageError: a file cannot be moved, or is gone. The same call goes on where this one ended.
        """
        if not (self._aside / _PLACING).exists():
            self.write(_TAKING, msgspec.json.encode(journal))
            sync_folder(self._aside)
            for source, target in journal.taken:
                if not (self._folder / target).exists():
                    self._move(source, target)
            self._sync(journal)
            self._move(f"{ASIDE}/{_TAKING}", f"{ASIDE}/{_PLACING}")
            sync_folder(self._aside)
        for name in journal.placed:
            if self.path(name).exists():
                self._move(f"{ASIDE}/{name}", name)
        self._sync(journal)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder aside; the journal first, as what is left without one means nothing."""
        try:
            for name in (_TAKING, _PLACING):
                (self._aside / name).unlink(missing_ok=True)
            if self._aside.exists():
                shutil.rmtree(self._aside)
        except OSError as error:
            raise StorageError(f"cannot remove {self._aside}: {error.strerror}") from error

    def _move(self, source: str, target: str) -> None:
        try:
            (self._folder / target).parent.mkdir(exist_ok=True)
            os.replace(self._folder / source, self._folder / target)
        except OSError as error:
            raise StorageError(f"cannot move {self._folder / source} to {target}: {error.strerror}") from error

    def _sync(self, journal: Journal) -> None:
        folders: Sequence[Path] = sorted({(self._folder / target).parent for _, target in journal.taken})
        for folder in (*folders, self._folder):
            sync_folder(folder)
