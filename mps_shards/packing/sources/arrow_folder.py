"""Folders that ``Dataset.save_to_disk`` of the ``datasets`` library writes: Arrow files, mapped into memory."""

import json
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.sources.files import file_stamp
from mps_shards.packing.sources.parquet import import_pyarrow
from mps_shards.packing.sources.source import Stamp
from mps_shards.packing.sources.table_source import Chunk, Value

__all__ = ["ArrowFiles", "is_arrow_folder"]

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_HEAD = 16
_ROW_BITS = 40  # a place holds the numbers of the image column and of the file above these bits, and a row below them
_COLUMN_BITS = 1


def is_arrow_folder(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote a folder, of a data set or of several splits."""
    return (folder / _STATE).is_file() or (folder / _SPLITS).is_file()


class ArrowFiles:
    """Arrow files as `TableFiles`. Each file is mapped on first use, once in each process."""

    layout = "saved data set"

    def __init__(self, folder: Path):
        import_pyarrow()
        self._folder = folder
        self._paths = [(split, path) for split, below in _split_folders(folder) for path in _files(below)]
        self._images: list[str] = []
        self._reset()
        if not self._paths:
            raise ConfigError(f"{folder} names no Arrow files in its {_STATE}")

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[int, Any] = {}
        self._starts: dict[tuple[int, int], list[int]] = {}

    @property
    def name(self) -> str:
        return str(self._folder)

    def schema(self) -> Any:
        return self._table(0).schema

    def chunks(self, images: Sequence[str], others: Sequence[str]) -> Iterator[Chunk]:
        self._images = list(images)
        for number, (split, _) in enumerate(self._paths):
            table = self._table(number)
            cells = table.select(list(others)).to_pydict() if others else {}
            values = [self._values(number, column) for column in range(len(images))]
            yield Chunk(split, table.num_rows, values, cells)

    def read(self, place: int, size: int) -> bytes:
        file, column = place >> _ROW_BITS + _COLUMN_BITS, place >> _ROW_BITS & (1 << _COLUMN_BITS) - 1
        row = place & (1 << _ROW_BITS) - 1
        column_data, starts = self._column(file, column)
        part = bisect_right(starts, row) - 1
        return bytes(_bytes_in(column_data.chunk(part))[row - starts[part]].as_buffer())

    def stamp(self, place: int) -> Stamp:
        path = self._paths[place >> _ROW_BITS + _COLUMN_BITS][1]
        return file_stamp(path, place)

    def _values(self, file: int, column: int) -> Iterator[Value]:
        base = (file << _COLUMN_BITS | column) << _ROW_BITS
        column_data, _ = self._column(file, column)
        row = 0
        for part in column_data.chunks:
            for scalar in _bytes_in(part):
                buffer = scalar.as_buffer()
                yield (
                    Value(base | row, -1, b"")
                    if buffer is None
                    else Value(base | row, buffer.size, bytes(buffer[:_HEAD]))
                )
                row += 1

    def _column(self, file: int, column: int) -> tuple[Any, list[int]]:
        data = self._table(file).column(self._images[column])
        starts = self._starts.get((file, column))
        if starts is None:
            starts = self._starts[file, column] = list(accumulate(map(len, data.chunks), initial=0))[:-1]
        return data, starts

    def _table(self, number: int) -> Any:
        import pyarrow

        with self._lock:
            if number not in self._tables:
                path = self._paths[number][1]
                try:
                    source = pyarrow.memory_map(str(path))
                    try:
                        self._tables[number] = pyarrow.ipc.open_stream(source).read_all()
                    except pyarrow.ArrowInvalid:
                        self._tables[number] = pyarrow.ipc.open_file(source).read_all()
                except (pyarrow.ArrowException, OSError) as error:
                    raise DataError(f"{path} is not an Arrow file that can be read: {error}") from error
            return self._tables[number]

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_paths": self._paths, "_images": self._images}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _bytes_in(part: Any) -> Any:
    import pyarrow

    return part.field("bytes") if pyarrow.types.is_struct(part.type) else part


def _split_folders(folder: Path) -> list[tuple[str, Path]]:
    if not (folder / _SPLITS).is_file():
        return [("", folder)]
    return [(str(name), folder / str(name)) for name in _json(folder / _SPLITS).get("splits", [])]


def _files(folder: Path) -> list[Path]:
    return [folder / str(each["filename"]) for each in _json(folder / _STATE).get("_data_files", [])]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a JSON object")
    return found
