"""Arguments that name shard sets: folders of this machine, or those of stores by their URLs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["HERE", "SET", "elsewhere"]


class _Set(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A folder as a Path, or that of a URL as a RemoteFolder.

    Args:
        here: of this machine only.
    """

    name = "set"

    def __init__(self, *, here: bool = False):
        self._here = here

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from mps_shards.storage.location import locate
        from mps_shards.storage.remote_folder import RemoteFolder
        from mps_shards.storage.urls import Prefix, scheme_of, without_secrets

        if scheme_of(value) in (None, "file"):
            return Path(value.removeprefix("file://"))
        if self._here:
            self.fail(f"{without_secrets(value)}: this works on folders of this machine; download the set", param, ctx)
        (location,) = locate([value])
        if location.names is not None or not isinstance(location.folder, Prefix):
            self.fail(f"{without_secrets(value)} is a tar; name the folder around it", param, ctx)
        return RemoteFolder(location.folder)


SET, HERE = _Set(), _Set(here=True)


def elsewhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for sets whose tars, or whose manifest and index, are not here."""
    folder = click.Path(path_type=Path, file_okay=False)
    index = click.option("--index", metavar="DIR", type=folder, help="Manifest and index, by mps-shards index --out.")
    cache = click.option("--cache", metavar="DIR", type=folder, help="Keep whole shards there, for the next time.")
    return index(cache(command))
