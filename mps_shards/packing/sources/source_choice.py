"""Choice of the source that the argument of `pack` names."""

import os
from pathlib import Path
from typing import Any

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.sources.archive_files import ARCHIVE_SUFFIXES, ArchiveFiles, archive_stem, is_archive
from mps_shards.packing.sources.arrow_folder import ArrowFiles, is_arrow_folder
from mps_shards.packing.sources.files import FolderFiles
from mps_shards.packing.sources.list_rows import LIST_SUFFIXES, LOOSE_SUFFIXES
from mps_shards.packing.sources.parquet import ParquetFiles
from mps_shards.packing.sources.python_samples import open_samples
from mps_shards.packing.sources.source import Source
from mps_shards.packing.sources.table_source import TableSource
from mps_shards.packing.sources.tree_source import TreeSource
from mps_shards.storage.disk_sync import translated
from mps_shards.storage.local_disk import is_folder
from mps_shards.storage.urls import scheme_of

__all__ = ["open_source"]

_LISTS = (*LIST_SUFFIXES, *LOOSE_SUFFIXES)
_TABLES = (".parquet", *ARCHIVE_SUFFIXES)


def open_source(given: Any, *, root: str | None = None) -> Source:
    """Open the source for a path, a URL or a Python object.

    Args:
        root: folder that the paths in a list are relative to; by default the folder of the list.

    Raises:
        ConfigError: the argument cannot be packed, or a required package is not installed.
        StorageError: the file or folder does not exist, or is not a source.
    """
    if not isinstance(given, str | os.PathLike):
        return open_samples(given)
    if scheme_of(os.fspath(given)) not in (None, "file"):
        return TableSource(ParquetFiles.at_url(os.fspath(given)))
    with translated(Path(given).absolute()):
        return _opened(given, root)


def _opened(given: str | os.PathLike[str], root: str | None) -> Source:
    path = Path(given).absolute()
    archive = next((each for each in path.parents if each.is_file()), None)  # archive.zip/labels.csv
    if archive is None:
        is_folder(Path(given))
    if path.is_dir() and is_arrow_folder(path):
        return TableSource(ArrowFiles(Path(given)), default_out=_beside(path, given))
    if path.suffix.lower() == ".parquet" or _holds_parquet(path):
        return TableSource(ParquetFiles.at(Path(given)), default_out=_beside(path.with_suffix(""), given))
    if path.is_dir():
        return TreeSource(FolderFiles(Path(given)), default_out=_beside(path, given))
    if path.exists() and path.suffix.lower() in _LISTS:
        beside = FolderFiles(Path(given).parent)
        images = FolderFiles(_root_of(root, Path(given).parent)) if root is not None else beside
        return TreeSource(
            images, list_name=path.name, list_files=beside, default_out=_beside(path.with_suffix(""), given)
        )
    if archive is not None and is_archive(archive) and path.suffix.lower() in _LISTS:
        out, name = _beside(archive.with_name(archive_stem(archive)), given), path.relative_to(archive).as_posix()
        return TreeSource(ArchiveFiles(archive), list_name=name, default_out=out)
    if is_archive(path):
        return TreeSource(ArchiveFiles(path), default_out=_beside(path.with_name(archive_stem(path)), given))
    kinds = f"not a directory, a list, a Parquet file or an archive ({', '.join((*_LISTS, *_TABLES))})"
    raise StorageError(f"{given}: {kinds}")


def _holds_parquet(folder: Path) -> bool:
    """Whether a folder holds Parquet files as the Hugging Face Hub lays them out."""
    if not folder.is_dir():
        return False
    places = (folder, folder / "data", folder / "default", *(folder / "default").glob("*"))
    return any(each.is_dir() and any(each.glob("*.parquet")) for each in places)


def _root_of(root: str, folder_of_list: Path) -> Path:
    for folder in (folder_of_list / root, Path(root)):
        if folder.is_dir():
            return folder
    raise ConfigError(f"root {root!r} is not a folder, neither in {folder_of_list} nor in the current folder")


def _beside(path: Path, given: str | os.PathLike[str]) -> Path:
    folder = Path(os.path.abspath(path))  # for a path such as "imgs/." or ".."
    beside = folder.with_name(folder.name + "-shards")
    return beside if Path(given).is_absolute() else Path(os.path.relpath(beside))  # so that lines about it stay short
