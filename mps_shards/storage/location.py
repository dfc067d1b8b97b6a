"""What a user may name as shards: a directory, a tar, the URL of either, a list of them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.object_store import SCHEMES
from mps_shards.storage.remote_folder import RemoteFolder
from mps_shards.storage.urls import Prefix, scheme_of, split_url, without_secrets

__all__ = ["Location", "locate", "locate_out"]


@dataclass(frozen=True, slots=True)
class Location:
    """A folder of shards.

    Attributes:
        folder: the directory, absolute, or a prefix in a store.
        names: file names of the tars chosen from it, in order; None for all that it holds.
        index: the folder of its manifest and index, where that is another.
    """

    folder: Path | Prefix
    names: tuple[str, ...] | None = None
    index: Path | None = None


def locate(named: Sequence[str | os.PathLike[str]], *, index: str | os.PathLike[str] | None = None) -> list[Location]:
    """Locations of what was named, in order; tars that follow each other in one folder are taken together.

    A URL that ends like a tar names one, any other a folder. No store is asked yet.

    Args:
        index: a folder of this machine with manifest and index of the one location.

    Raises:
        ConfigError: nothing was named, or a URL whose scheme cannot be read.
        StorageError: a path does not exist.
    """
    found: list[Location] = []
    for item in named:
        folder, name = _split(os.fspath(item))
        if name is None:
            found.append(Location(folder))
        elif found and found[-1].names is not None and found[-1].folder == folder:
            found[-1] = Location(folder, (*found[-1].names, name))
        else:
            found.append(Location(folder, (name,)))
    if not found:
        raise ConfigError("no shards were named: give a directory of shards, a tar file, or a list of them")
    if index is None:
        return found
    if len(found) > 1:
        raise ConfigError(f"index={os.fspath(index)!r} is for tars of one folder, {len(found)} were named")
    return [replace(found[0], index=Path(index).absolute())]


def locate_out(named: str | os.PathLike[str]) -> Path | Prefix:
    """A folder to write to, there already or not. No store is asked yet.

    Raises:
        ConfigError: a URL that cannot be written to.
    """
    text = os.fspath(named)
    scheme = scheme_of(text)
    if scheme is None:
        return Path(text)
    if scheme in ("http", "https"):
        shown = without_secrets(text)
        raise ConfigError(f"{shown}: web servers are only read from; name the store itself (s3://, gs://, az://)")
    folder, name = _split(text) if scheme != "file" else (_path_of(text), None)
    if name is not None:
        raise ConfigError(f"{without_secrets(text)} names a tar, a folder is needed")
    return folder


def _path_of(text: str) -> Path:
    return Path(re.sub(r"^file:(//(localhost)?(?=/))?", "", text, flags=re.IGNORECASE)).absolute()


def _split(text: str) -> tuple[Path | Prefix, str | None]:
    scheme = scheme_of(text)
    if scheme == "file":
        path = _path_of(text)
    elif scheme is not None:
        if "://" not in text and scheme != "pipe":
            raise ConfigError(f"{text}: a URL begins with {scheme}://, a path beside you with ./")
        prefix, name = split_url(text)
        if scheme in SCHEMES and not urlsplit(prefix.url).netloc:
            raise ConfigError(f"{text} names no {'host' if scheme.startswith('http') else 'bucket'}")
        RemoteFolder(prefix)  # says at once what cannot be read
        return prefix, name
    else:
        path = Path(text).absolute()
    if path.is_dir():
        return path, None
    if not path.exists():
        raise StorageError(f"{text}: no such file or directory")
    return path.parent, path.name
