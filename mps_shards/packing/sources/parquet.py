"""Parquet files with images: local files, a local folder, or a data set of the Hugging Face Hub (``hf://``)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.files import file_stamp, stamp_of
from mps_shards.packing.sources.parquet_pages import ColumnChunk, PageReader
from mps_shards.packing.sources.source import Stamp
from mps_shards.packing.sources.table_source import Chunk, split_of
from mps_shards.storage.range_reader import RangeReader

__all__ = ["ParquetFiles", "import_pyarrow"]

_CODECS = {"UNCOMPRESSED": "", "LZ4": "lz4_raw"}  # other names are those of pyarrow in capitals


def import_pyarrow() -> Any:
    """Import and return the package `pyarrow`.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ConfigError("reading Parquet and Arrow files needs pyarrow: pip install 'mps-shards[parquet]'") from error
    return pyarrow


class ParquetFiles:
    """Parquet files as `TableFiles`.

    Args:
        paths: paths of the files, sorted.
        file_system: fsspec file system that holds the files; None for local files.
        is_single: whether the user named this one file; then its name is not that of a split.
    """

    layout = "Parquet"

    def __init__(self, name: str, paths: Sequence[str], *, file_system: Any = None, is_single: bool = False):
        import_pyarrow()
        self.name = name
        self._paths = list(paths)
        self._file_system = file_system
        self._is_single = is_single
        self._reader = RangeReader()
        self._pages = PageReader(self._range, self._paths)

    @classmethod
    def at(cls, path: Path) -> "ParquetFiles":
        """Open a local Parquet file, or all Parquet files below a local folder."""
        if not path.is_dir():
            if not path.is_file():
                raise StorageError(f"{path}: no such file or directory")
            return cls(str(path), [str(path)], is_single=True)
        return cls(str(path), sorted(str(each) for each in path.rglob("*.parquet") if not _is_hidden(each, path)))

    @classmethod
    def at_url(cls, url: str) -> "ParquetFiles":
        """Open a Parquet file, or all Parquet files below a folder, in a store that fsspec reads.

        Raises:
            ConfigError: a package is missing, or there are no Parquet files.
            StorageError: the store cannot be read.
        """
        try:
            import fsspec
        except ImportError as error:
            raise ConfigError(
                f"reading {url} needs fsspec: pip install 'mps-shards[fsspec]' huggingface_hub"
            ) from error
        try:
            file_system, path = fsspec.core.url_to_fs(url)
            is_single = path.endswith(".parquet")
            paths = (
                [path] if is_single else sorted(each for each in file_system.find(path) if each.endswith(".parquet"))
            )
        except ImportError as error:
            raise ConfigError(f"reading {url} needs another package: {error}") from error
        except Exception as error:  # each store has its own errors
            raise StorageError(f"cannot read {url}: {error}") from error
        if not paths:
            raise ConfigError(f"{url} holds no Parquet files")
        return cls(url, paths, file_system=file_system, is_single=is_single)

    def schema(self) -> Any:
        return self._opened(0).schema_arrow

    def chunks(self, images: Sequence[str], others: Sequence[str]) -> Iterator[Chunk]:
        """Yield all rows, one row group at a time, and read the pages of their images."""
        root = os.path.commonpath([os.path.dirname(path) for path in self._paths]) if len(self._paths) > 1 else ""
        for number, path in enumerate(self._paths):
            file = self._opened(number)
            missing = [name for name in (*images, *others) if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path} has no column {missing[0]!r}, which {self._paths[0]} has")
            split = "" if self._is_single else split_of(path, os.path.dirname(root) if root else "")
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                cells = file.read_row_group(group, columns=list(others)).to_pydict() if others else {}
                values = [self._pages.values(self._chunk(file, number, group, name)) for name in images]
                yield Chunk(split, rows, values, cells)

    def read(self, place: int, size: int) -> bytes:
        return self._pages.read(place, size)

    def stamp(self, place: int) -> Stamp:
        path = self._paths[self._pages.file_of(place)]
        if self._file_system is not None:
            return stamp_of(path, place, is_sure=False)
        return file_stamp(path, place)

    def _opened(self, number: int) -> Any:
        import pyarrow
        import pyarrow.parquet as parquet

        path = self._paths[number]
        try:
            return parquet.ParquetFile(path if self._file_system is None else self._file_system.open(path))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error

    def _chunk(self, file: Any, number: int, group: int, name: str) -> ColumnChunk:
        about, schema = file.metadata.row_group(group), file.metadata.schema
        leaf = next(
            (each for each in range(len(schema)) if schema.column(each).path in (name, f"{name}.bytes")),
            None,
        )
        if leaf is None or schema.column(leaf).max_repetition_level:
            raise ConfigError(f"{self._paths[number]}: column {name!r} does not hold one image for each row")
        column = about.column(leaf)
        start = column.data_page_offset
        if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < start:
            start = column.dictionary_page_offset
        codec = _CODECS.get(column.compression, column.compression.lower())
        levels = schema.column(leaf).max_definition_level
        return ColumnChunk(number, start, start + column.total_compressed_size, about.num_rows, codec, levels)

    def _range(self, file: int, start: int, stop: int) -> bytes:
        path = self._paths[file]
        if self._file_system is None:
            return self._reader.read(path, start, stop - start)
        try:
            return bytes(self._file_system.cat_file(path, start=start, end=stop))
        except Exception as error:  # each store has its own errors
            raise StorageError(f"cannot read {path}: {error}") from error


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
