"""Comparison of folders by their contents."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, including hidden files, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
