"""Arguments that name shard sets: folders of this machine, or those of stores by their URLs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["HERE", "SET", "elsewhere"]


class _Set(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A folder that a path or URL names, opened; with `here`, the path of a local folder."""

    name = "set"

    def __init__(self, *, here: bool = False):
        self._here = here

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mps_shards.storage.location import open_folder

        folder = open_folder(value)
        if not self._here:
            return folder
        if folder.path is None:
            self.fail(f"{folder}: this works on folders of this machine; download the set", param, ctx)
        return folder.path


SET, HERE = _Set(), _Set(here=True)


def elsewhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for sets whose tars, or whose manifest and index, are not here."""
    folder = click.Path(path_type=Path, file_okay=False)
    index = click.option("--index", metavar="DIR", type=folder, help="Manifest and index, by mps-shards index --out.")
    cache = click.option("--cache", metavar="DIR", type=folder, help="Keep whole shards there, for the next time.")
    return index(cache(command))
