"""Folders as values."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in the folder, hidden ones too, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
