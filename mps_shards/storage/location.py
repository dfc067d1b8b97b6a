"""What a user may name: a folder of shards, a tar file, the URL of either, or a list of them."""

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
    """A folder of shards.

    Attributes:
        folder: Where the tars are.
        names: File names of the tars chosen from it, in order; None for all that it holds.
        index: Folder of the manifest and the index, where that is another one.
    """

    folder: WritableFolder
    names: tuple[str, ...] | None = None
    index: WritableFolder | None = None


@overload
def open_folder(named: _F, *, options: StoreOptions | None = None) -> _F: ...
@overload
def open_folder(named: str | os.PathLike[str], *, options: StoreOptions | None = None) -> WritableFolder: ...
def open_folder(named: Folder | str | os.PathLike[str], *, options: StoreOptions | None = None) -> Folder:
    """The folder that a path or URL names, whether it exists or not. No store is asked yet.

    Args:
        named: A folder that is open already is returned as it is.
        options: Time-outs and retries of stores.

    Raises:
        ConfigError: The URL cannot be read, or names a tar.
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
        raise ConfigError(f"{without_secrets(text)} names a tar, a folder is needed")
    return folder


def locate(
    named: Sequence[str | os.PathLike[str]],
    *,
    index: str | os.PathLike[str] | None = None,
    options: StoreOptions | None = None,
) -> list[Location]:
    """Locations of what was named, in order; tars that follow each other in one folder are taken together.

    A URL that ends like a tar names one, any other a folder. No store is asked yet.

    Args:
        index: Folder with the manifest and index of the one location.
        options: Time-outs and retries of stores.

    Raises:
        ConfigError: Nothing was named, or a URL whose scheme cannot be read.
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
        raise ConfigError(f"index={os.fspath(index)!r} is for tars of one folder, {len(found)} were named")
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
        raise ConfigError(f"{text}: a URL begins with {scheme}://, a path beside you with ./")
    prefix, name = split_url(text)
    if scheme in SCHEMES and not urlsplit(prefix.url).netloc:
        raise ConfigError(f"{text} names no {'host' if scheme.startswith('http') else 'bucket'}")
    return StoreFolder(prefix, options), name


def _path_of(text: str) -> Path:
    return Path(re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE)).absolute()
