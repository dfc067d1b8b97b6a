"""Rows of a list in CSV, TSV, JSONL, JSON or plain text, with their line numbers; all but JSON are read as a stream."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import msgspec

from mps_shards.errors import DataError
from mps_shards.packing.sources.file_tree import is_image
from mps_shards.packing.sources.files import Files
from mps_shards.shards.manifest import NOT_JSON
from mps_shards.wording import counted

__all__ = ["LIST_SUFFIXES", "LOOSE_SUFFIXES", "read_rows"]

LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
LOOSE_SUFFIXES = (".json", ".txt")  # files with these suffixes may not be lists
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_JSON = 1 << 30  # bytes; the whole file is decoded in one step
Rows = Iterator[tuple[int, dict[str, Any]]]


def read_rows(files: Files, table: str) -> Rows:
    """Yield the line number and the cells by column name of each row of a list.

    Cells of CSV and TSV are text. Their first line names the columns, unless it has one or two cells of which the first
    names an image. Files are UTF-8, or UTF-16 with a byte order mark. Blank lines, the unnamed column of row numbers
    that pandas writes, and Excel's line ``sep=;`` are skipped. A line of plain text is a path and, after the last
    blank, a label. JSON is an array of objects, or one object with a label, or an object of cells, for each path.

    Raises:
        DataError: a line cannot be read; the error names it.
        StorageError: the file cannot be read.
    """
    shown = f"{files.name}/{table}"
    read = _READERS.get(table.lower().rpartition(".")[2], _csv_rows)
    with files.open(table) as file:
        head = file.read(1024)
    if b"\0" in head and not head.startswith(_UTF16):
        raise DataError(
            f"{shown} holds null bytes: it is not text, or UTF-16 without a byte order mark; save it as UTF-8"
        )
    encoding = "utf-16" if head.startswith(_UTF16) else "utf-8-sig"
    try:
        with io.TextIOWrapper(files.open(table), encoding=encoding, newline="") as text:
            yield from read(shown, text)
    except UnicodeDecodeError as error:
        raise DataError(f"{shown} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error


def _csv_rows(table: str, file: TextIO) -> Rows:
    head = file.readline()
    file.seek(0)
    of_excel = head[4] if head.startswith("sep=") and len(head) > 5 else ""
    delimiter = of_excel or ("\t" if table.lower().endswith(".tsv") else max(",;\t", key=head.count))
    is_spaced = f"{delimiter} " in head  # blanks after commas, as in "label, path"
    reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=is_spaced)
    columns: list[str] = []
    began, named_by = 1, 0  # line at which the next row begins, and line that names the columns
    try:
        for row in reader:
            line, began = began, reader.line_num + 1
            if not any(row) or (of_excel and reader.line_num == 1):
                continue
            cells = row
            if not columns:
                is_header = not (len(cells) <= 2 and is_image(cells[0].strip()))
                columns = [cell.strip() for cell in cells] if is_header else ["path", "label"][: len(cells)]
                columns, named_by = _checked_columns(f"{table}:{reader.line_num}", columns), line
                if is_header:
                    continue
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()  # a comma at the end of the line
            if len(cells) != len(columns):
                raise DataError(
                    f"{table}:{line}: {counted(len(cells), 'cell')}, but line {named_by} has "
                    f"{counted(len(columns), 'column')} ({', '.join(columns)[:60]}); write as many cells as columns, "
                    f"and quotes around a cell with {delimiter!r} in it"
                )
            named = zip(columns, cells, strict=True)
            yield reader.line_num, {name: cell for name, cell in named if name}
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise DataError(
                f"{table}:{began}: a quoted cell that begins here has no closing quote; close it"
            ) from error
        raise DataError(f"{table}:{reader.line_num}: {error}; correct this line") from error


def _checked_columns(where: str, columns: list[str]) -> list[str]:
    """Return the names of columns without empty names at the end, which commas at the end of the line make."""
    while len(columns) > 1 and not columns[-1]:
        columns = columns[:-1]
    named = [name for name in columns if name]
    if len(set(named)) < len(named):
        raise DataError(f"{where}: two columns have the same name ({', '.join(columns)}); rename one")
    if len(columns) - len(named) > 1 or (columns[1:] and "" in columns[1:]):
        raise DataError(f"{where}: a column has no name ({', '.join(columns)}); give it one")
    return columns


def _json_rows(table: str, file: TextIO) -> Rows:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, decoder.decode(line)
            except NOT_JSON as error:
                raise DataError(f"{table}:{number}: {error}; each line must be one JSON object") from error


def _json_file_rows(table: str, file: TextIO) -> Rows:
    """Yield the rows of a file that is one JSON value. The number of a row counts as its line in messages."""
    text = file.read(_MOST_JSON)
    if len(text) == _MOST_JSON:
        raise DataError(f"{table} is too large for one JSON value; write one object per line (.jsonl)")
    try:
        whole = msgspec.json.decode(text)
    except NOT_JSON as error:
        raise DataError(f"{table}: {error}") from error
    if isinstance(whole, dict) and {"images", "annotations"} <= whole.keys():
        raise DataError(f"{table} is a COCO annotation file; pack the folder that holds it and the images")
    rows = whole
    if isinstance(whole, dict):
        _refuse_repeated_names(table, text)
        rows = [
            {"path": path, **(about if isinstance(about, dict) else {"label": about})} for path, about in whole.items()
        ]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{table} is not a list of images: it needs an array of objects, or an object with a label by path"
        )
    yield from enumerate(rows, 1)


def _refuse_repeated_names(table: str, text: str) -> None:
    """Raise DataError if an object has two members of one name, of which decoders would keep only the last."""

    def checked(pairs: list[tuple[str, Any]]) -> None:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise DataError(f"{table} names {name!r} twice in one object, perhaps with another label; remove one")
            names.add(name)

    json.loads(text, object_pairs_hook=checked)


def _text_rows(table: str, file: TextIO) -> Rows:
    """Yield rows of lines such as ``cats/0.jpg 3``. A file whose first line has commas or tabs is read as CSV."""
    head = file.readline()
    file.seek(0)
    if "," in head or "\t" in head:
        yield from _csv_rows(table, file)
        return
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text:
            continue
        path, _, label = (text, "", "") if is_image(text) else text.rpartition(" ")
        if not is_image(path.strip()):
            raise DataError(f"{table}:{number}: {text[:80]!r} is neither a path of an image nor a path and a label")
        yield number, {"path": path.strip(), **({"label": label} if label else {})}


_READERS: dict[str, Callable[[str, TextIO], Rows]] = {
    "jsonl": _json_rows,
    "ndjson": _json_rows,
    "json": _json_file_rows,
    "txt": _text_rows,
}
