"""Arguments that name shard sets: local folders by their paths, those of stores by their URLs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["SET", "elsewhere"]


class _Set(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A folder that a path or URL names, opened."""

    name = "set"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mps_shards.storage.location import open_folder

        return open_folder(value)


SET = _Set()


def elsewhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for sets whose tars, or whose manifest and index, are not here."""
    folder = click.Path(path_type=Path, file_okay=False)
    index = click.option("--index", metavar="DIR", type=folder, help="Manifest and index, by mps-shards index --out.")
    cache = click.option("--cache", metavar="DIR", type=folder, help="Keep whole shards there, for the next time.")
    return index(cache(command))
