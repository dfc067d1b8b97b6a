"""Rows of a CSV, TSV or JSONL file, with their line numbers; read as a stream."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import msgspec

from mps_shards.errors import DataError
from mps_shards.packing.sources.file_tree import FileTree, is_image
from mps_shards.shards.manifest import NOT_JSON

__all__ = ["LIST_SUFFIXES", "PATH_COLUMNS", "read_rows", "role_of"]

LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "filepaths", "image", "image_path")
_ROLES: Mapping[str, tuple[str, ...]] = {
    "path": PATH_COLUMNS,
    "label": ("label", "class", "category", "target", "labels", "class_name"),
    "split": ("split", "subset"),
    "mask": ("mask", "mask_path", "mask_file", "mask_file_name"),
}


def read_rows(tree: FileTree, table: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and cells by column name, row after row.

    Cells of CSV and TSV are text. Their first line names the columns, unless it is a row itself: one or two cells, the
    first an image's name. UTF-8, with or without a byte order mark; blank lines are passed over.

    Raises:
        DataError: what cannot be read so, with its line.
        StorageError: the file cannot be read.
    """
    read: Callable[[str, TextIO], Iterator[tuple[int, dict[str, Any]]]]
    read = _csv_rows if table.lower().endswith((".csv", ".tsv")) else _json_rows
    shown = tree.shown(table)
    try:
        with io.TextIOWrapper(tree.files.open(table), encoding="utf-8-sig", newline="") as file:
            yield from read(shown, file)
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def role_of(columns: Mapping[str, Any]) -> dict[str, str]:
    """The column for each of path, label, split and mask that there is; of several the first in the order above."""
    spelled = {column.strip().lower().replace(" ", "_"): column for column in columns}
    found = {role: [spelled[name] for name in names if name in spelled] for role, names in _ROLES.items()}
    return {role: names[0] for role, names in found.items() if names}


def _csv_rows(table: str, file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = "\t" if table.lower().endswith(".tsv") else max(",;\t", key=file.readline().count)
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            if not row:
                continue
            if not columns:
                columns = ["path", "label"][: len(row)] if _is_no_header(row) else [name.strip() for name in row]
                if len(set(columns)) < len(columns):
                    raise DataError(f"{table}:{reader.line_num}: two columns have the same name ({', '.join(columns)})")
                if not _is_no_header(row):
                    continue
            if len(row) != len(columns):
                raise DataError(f"{table}:{reader.line_num}: {len(row)} cells, but {len(columns)} columns")
            yield reader.line_num, dict(zip(columns, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{table}:{reader.line_num}: {error}") from error


def _is_no_header(row: list[str]) -> bool:
    return len(row) <= 2 and is_image(row[0])


def _json_rows(table: str, file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except NOT_JSON as error:
                raise DataError(f"{table}:{number}: {error}") from error
