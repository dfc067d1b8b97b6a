"""Parsing of locations that users give: a folder of shards, a tar file, the URL of either, or a list of these."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, overload
from urllib.parse import urlsplit

from mps_shards.errors import ConfigError
from mps_shards.storage.folder import Folder, WritableFolder
from mps_shards.storage.local_disk import LocalFolder, is_folder
from mps_shards.storage.object_store import SCHEMES
from mps_shards.storage.store_folder import StoreFolder
from mps_shards.storage.store_options import StoreOptions
from mps_shards.storage.urls import scheme_of, split_url, without_secrets

__all__ = ["Location", "locate", "open_folder"]

_F = TypeVar("_F", bound=Folder)


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of shards, and which of its tars were chosen.

    Attributes:
        folder: Folder of the tars.
        names: File names of the chosen tars, in order; None for all tars of the folder.
        index: Folder of the manifest and the index, if they are not beside the tars.
    """

    folder: WritableFolder
    names: tuple[str, ...] | None = None
    index: WritableFolder | None = None


@overload
def open_folder(named: _F, *, options: StoreOptions | None = None) -> _F: ...
@overload
def open_folder(named: str | os.PathLike[str], *, options: StoreOptions | None = None) -> WritableFolder: ...
def open_folder(named: Folder | str | os.PathLike[str], *, options: StoreOptions | None = None) -> Folder:
    """Return the folder of a path or URL, whether it exists or not. Sends no request to a store.

    Args:
        named: Path or URL; an opened folder is returned unchanged.
        options: Time-outs and retries of stores.

    Raises:
        ConfigError: The URL is not supported, or names a tar.
    """
    if isinstance(named, Folder):
        return named
    text = os.fspath(named)
    scheme = scheme_of(text)
    if scheme is None:
        return LocalFolder(Path(text))
    if scheme == "file":
        return LocalFolder(_path_of(text))
    folder, name = _split_store_url(text, options)
    if name is not None:
        raise ConfigError(f"{without_secrets(text)} names a tar, but a folder is needed")
    return folder


def locate(
    named: Sequence[str | os.PathLike[str]],
    *,
    index: str | os.PathLike[str] | None = None,
    options: StoreOptions | None = None,
) -> list[Location]:
    """Return the locations that a user named, in order; successive tars of one folder form one location.

    A URL with the ending of a tar names a tar, any other URL a folder. Sends no request to a store.

    Args:
        index: Folder of the manifest and the index; only for a single location.
        options: Time-outs and retries of stores.

    Raises:
        ConfigError: Nothing was named, or the scheme of a URL is not supported.
        StorageError: A path does not exist.
    """
    found: list[Location] = []
    for item in named:
        folder, name = _split(os.fspath(item), options)
        if name is None:
            found.append(Location(folder))
        elif found and found[-1].names is not None and found[-1].folder == folder:
            found[-1] = replace(found[-1], names=(*found[-1].names, name))
        else:
            found.append(Location(folder, (name,)))
    if not found:
        raise ConfigError("no shards were named: give a directory of shards, a tar file, or a list of them")
    if index is None:
        return found
    if len(found) > 1:
        raise ConfigError(f"index={os.fspath(index)!r} is for tars of one folder, but {len(found)} folders were named")
    index_folder = open_folder(index, options=options)
    if index_folder.path is not None:
        index_folder = LocalFolder(index_folder.path.absolute())
    return [replace(found[0], index=index_folder)]


def _split(text: str, options: StoreOptions | None) -> tuple[WritableFolder, str | None]:
    scheme = scheme_of(text)
    if scheme not in (None, "file"):
        return _split_store_url(text, options)
    path = _path_of(text) if scheme else Path(text).absolute()
    if is_folder(path if scheme else Path(text)):
        return LocalFolder(path), None
    return LocalFolder(path.parent), path.name


def _split_store_url(text: str, options: StoreOptions | None) -> tuple[StoreFolder, str | None]:
    scheme = scheme_of(text)
    if "://" not in text and scheme != "pipe":
        raise ConfigError(f"{text}: write a URL with {scheme}://, or a relative path with ./ in front")
    prefix, name = split_url(text)
    if scheme in SCHEMES and not urlsplit(prefix.url).netloc:
        raise ConfigError(f"{text} names no {'host' if scheme.startswith('http') else 'bucket'}")
    return StoreFolder(prefix, options), name


def _path_of(text: str) -> Path:
    return Path(re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE)).absolute()
