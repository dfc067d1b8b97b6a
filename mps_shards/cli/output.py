"""Tables and JSON that commands print."""

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mps_shards.storage.urls import without_secrets
from mps_shards.wording import printable

__all__ = ["say_broken", "say_json", "say_next", "say_open", "say_table"]

_MOST_BROKEN = 20  # broken samples that are printed


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, most: int | None = None) -> None:
    """Print a table, drawn by rich on a terminal and as aligned columns elsewhere.

    Args:
        most: number of rows to print; a last line says how many more there are.
    """
    _say_rows(head, [[printable(cell) for cell in row] for row in rows[:most]])
    if most is not None and len(rows) > most:
        click.echo(f"… and {len(rows) - most:,} more; --json lists all of them")


def _say_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*head, header_style="bold", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # rich would take some keys for markup
        Console().print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say_json(value: Any) -> None:
    """Print a value as JSON, with dataclasses as objects and paths as text."""
    click.echo(json.dumps(value, default=_plain, indent=2))


def say_next(*command: object, index: str | os.PathLike[str] | None = None) -> None:
    """Suggest the next command on stderr, because stdout holds only results.

    Args:
        index: folder of the manifest and the index, for a command that reads a set with ``--index``.
    """
    elsewhere = [] if index is None else ["--index", str(index)]
    words = ["mps-shards", *(without_secrets(str(word)) for word in command), *elsewhere]
    click.echo(f"Next: {printable(shlex.join(words))}", err=True)


def say_open(path: Path, *, what: str) -> None:
    """Suggest on stderr to open a file, and name the program that shows it."""
    click.echo(f"Next: open {printable(str(path))} {what}", err=True)


def say_broken(lines: Sequence[str]) -> None:
    """Print a line on stderr for each of the first samples that could not be used, and the number of all others."""
    for line in lines[:_MOST_BROKEN]:
        click.echo(f"broken: {printable(line)}", err=True)
    if len(lines) > _MOST_BROKEN:
        click.echo(f"broken: and {len(lines) - _MOST_BROKEN:,} more", err=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)
