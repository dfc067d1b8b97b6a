"""What a user may name as shards: a directory, a tar, a list of either."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mps_shards.errors import ConfigError, StorageError

__all__ = ["Location", "locate"]

_URL = re.compile(r"^([a-z][a-z0-9+.-]*):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of shards.

    Attributes:
        folder: the directory, absolute.
        names: file names of the tars chosen from it, in order; None for all that it holds.
    """

    folder: Path
    names: tuple[str, ...] | None = None


def locate(named: Sequence[str | os.PathLike[str]]) -> list[Location]:
    """Locations of what was named, in order; tars that follow each other in one folder are taken together.

    Raises:
        ConfigError: nothing was named, or a URL whose scheme this version cannot read.
        StorageError: a path does not exist.
    """
    found: list[Location] = []
    for item in named:
        path = _local(os.fspath(item))
        if path.is_dir():
            found.append(Location(path))
        elif not path.exists():
            raise StorageError(f"{os.fspath(item)}: no such file or directory")
        elif found and found[-1].names is not None and found[-1].folder == path.parent:
            found[-1] = Location(path.parent, (*found[-1].names, path.name))
        else:
            found.append(Location(path.parent, (path.name,)))
    if not found:
        raise ConfigError("no shards were named: give a directory of shards, a tar file, or a list of them")
    return found


def _local(text: str) -> Path:
    scheme = _URL.match(text)
    if scheme and scheme[1].lower() == "file":
        text = re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE)
    elif scheme and len(scheme[1]) > 1:  # one letter is a drive
        raise ConfigError(f"{text}: this version reads shards from local disks only, not {scheme[1]}:")
    return Path(text).absolute()
