"""Rows of a CSV, TSV or JSONL file, with their line numbers; read as a stream."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import msgspec

from mps_shards.errors import DataError
from mps_shards.packing.sources.file_tree import is_image
from mps_shards.packing.sources.files import Files
from mps_shards.shards.manifest import NOT_JSON

__all__ = ["LIST_SUFFIXES", "read_rows"]

LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
Rows = Iterator[tuple[int, dict[str, Any]]]


def read_rows(files: Files, table: str) -> Rows:
    """Line number and cells by column name, row after row.

    Cells of CSV and TSV are text. Their first line names the columns, unless it is a row
    itself: one or two cells, the first an image's name. UTF-8, with or without a byte order mark; blank lines are
    passed over, and so is a column without a name that counts the rows, as pandas writes it.

    Raises:
        DataError: naming the line that cannot be read.
        StorageError: the file cannot be read.
    """
    read: Callable[[str, TextIO], Rows]
    read = _csv_rows if table.lower().endswith((".csv", ".tsv")) else _json_rows
    shown = f"{files.name}/{table}"
    try:
        with io.TextIOWrapper(files.open(table), encoding="utf-8-sig", newline="") as file:
            yield from read(shown, file)
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _csv_rows(table: str, file: TextIO) -> Rows:
    head = file.readline()
    file.seek(0)
    delimiter = "\t" if table.lower().endswith(".tsv") else max(",;\t", key=head.count)
    is_spaced = f"{delimiter} " in head  # "label, path"
    reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=is_spaced)
    columns: list[str] = []
    try:
        for row in reader:
            if not any(row):
                continue
            cells = row
            if not columns:
                is_header = not (len(cells) <= 2 and is_image(cells[0].strip()))
                columns = [cell.strip() for cell in cells] if is_header else ["path", "label"][: len(cells)]
                _check_columns(f"{table}:{reader.line_num}", columns)
                if is_header:
                    continue
            if len(cells) != len(columns):
                raise DataError(f"{table}:{reader.line_num}: {len(cells)} cells, but {len(columns)} columns")
            named = zip(columns, cells, strict=True)
            yield reader.line_num, {name: cell for name, cell in named if name}
    except csv.Error as error:
        raise DataError(f"{table}:{reader.line_num}: {error}") from error


def _check_columns(where: str, columns: list[str]) -> None:
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise DataError(f"{where}: two columns have the same name ({', '.join(columns)})")
    if len(columns) - len(named) > 1 or (columns[1:] and "" in columns[1:]):
        raise DataError(f"{where}: a column has no name ({', '.join(columns)}); name it")


def _json_rows(table: str, file: TextIO) -> Rows:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except NOT_JSON as error:
                raise DataError(f"{table}:{number}: {error}") from error
