"""Which source an argument of `pack` names."""

import os
from pathlib import Path
from typing import Any

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.sources.archive_files import ARCHIVE_SUFFIXES, ArchiveFiles, archive_stem, is_archive
from mps_shards.packing.sources.files import FolderFiles
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES
from mps_shards.packing.sources.source import Source
from mps_shards.packing.sources.tree_source import TreeSource

__all__ = ["open_source"]


def open_source(given: Any) -> Source:
    """The source that a path names.

    Raises:
        ConfigError: not a path.
        StorageError: there is no such file or folder, or it is not a source.
    """
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"cannot pack {type(given).__name__!r}: name a folder or a list of images")
    path = Path(given).absolute()
    if path.is_dir():
        return TreeSource(FolderFiles(Path(given)), default_out=_beside(path))
    if path.exists() and path.suffix.lower() in LIST_SUFFIXES:
        return TreeSource(FolderFiles(Path(given).parent), list_name=path.name, default_out=_beside(path.parent))
    if is_archive(path):
        return TreeSource(ArchiveFiles(path), default_out=_beside(path.with_name(archive_stem(path))))
    kinds = (
        f"not a directory, not a list ({', '.join(LIST_SUFFIXES)}) and not an archive ({', '.join(ARCHIVE_SUFFIXES)})"
    )
    raise StorageError(f"{given}: {kinds if path.exists() else 'no such file or directory'}")


def _beside(path: Path) -> Path:
    folder = Path(os.path.abspath(path))  # for a path such as "imgs/." or ".."
    return folder.with_name(folder.name + "-shards")
