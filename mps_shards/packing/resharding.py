"""Resharding: packing of samples from existing shard sets, without decoding them."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mps_shards.errors import ConfigError, StorageError
from mps_shards.storage.folder import Folder
from mps_shards.storage.location import open_folder

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackReport
    from mps_shards.packing.run import OnUnderstanding
    from mps_shards.packing.shard_writer import Progress
    from mps_shards.storage.folder import WritableFolder

__all__ = ["DEFAULTS", "keys_to_drop", "reshard"]

DEFAULTS = {"shuffle": False, "check": False}  # defaults of resharding that differ from those of packing


def reshard(
    sets: "Sequence[str | PathLike[str] | Folder]",
    out: "str | PathLike[str] | WritableFolder",
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    drop: str | PathLike[str] | Iterable[str] = (),
    prefix: bool = False,
    dry_run: bool = False,
    on_understanding: "OnUnderstanding | None" = None,
    on_progress: "Progress | None" = None,
    **options: Any,
) -> "PackReport":
    """Write the samples of one or more shard sets into a new set, or into one new set for each split.

    The given sets are not changed. Samples are copied; images are encoded again only if an option asks for it.
    The class lists of the sets are merged by name, and labels are renumbered. Equal sets and options give equal
    bytes, and an interrupted call is continued by the same call, as for `mps_shards.pack`.

    Args:
        sets: folders of shard sets, their URLs, or such folders opened by `mps_shards.storage.location.open_folder`.
        out: an absent or empty folder, an unfinished reshard of the same sets with the same options, or a URL.
        only: names of the classes to keep; all by default.
        without: names of the classes to leave out.
        drop: keys of samples to leave out: a file with one key on each line, or the keys themselves.
        prefix: begin every key with the folder name of its set, so that several sets may have equal keys.
        dry_run: write nothing, and report what would be written.
        on_understanding: called with an `Understanding` of the sets, before anything is written.
        on_progress: called from worker threads with the numbers of samples and bytes since its last call.
        options: the options of `mps_shards.pack` for images, shards and the work. The samples keep their order
            unless `shuffle` is set, and images are not decoded unless `check` is set.

    Raises:
        ConfigError: the sets do not fit together, a class or key is in none of them, or `out` holds something else.
        DataError: two sets hold the same key, or a sample is damaged.
        ManifestError: a set has no manifest, or its index does not fit.
        StorageError: a file cannot be read or written.
    """
    from mps_shards.packing.pack_options import PackOptions
    from mps_shards.packing.run import run_pack
    from mps_shards.packing.sources.shard_set_source import SetSelection, ShardSetSource

    folders = [open_folder(each) for each in sets]
    _check_apart(folders, open_folder(out))
    selection = SetSelection(only=tuple(only), without=tuple(without), drop=keys_to_drop(drop), prefix=prefix)
    with contextlib.closing(ShardSetSource(folders, selection)) as source:
        return run_pack(
            source,
            out,
            PackOptions.of(**{**DEFAULTS, **options}),
            dry_run=dry_run,
            asks=False,
            on_understanding=on_understanding or (lambda understanding: None),
            on_progress=on_progress or (lambda samples, size: None),
        )


def keys_to_drop(drop: str | PathLike[str] | Iterable[str]) -> frozenset[str]:
    """Return the keys that a file lists, one on each line, or that are given as text with commas or as an iterable.

    Raises:
        StorageError: the file cannot be read.
    """
    if not isinstance(drop, str | PathLike):
        return frozenset(drop)
    path = Path(drop)
    try:
        if path.is_file():
            return frozenset(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read the keys in {path}: {error}") from error
    return frozenset(key.strip() for key in fspath(drop).split(",") if key.strip())


def _check_apart(folders: Sequence[Folder], out: Folder) -> None:
    """Refuse to write into a set that is read: `overwrite` would remove that set first."""
    target = _real_address(out)
    for folder in folders:
        address = _real_address(folder)
        if target == address or address.startswith(target + "/"):
            raise ConfigError(f"{out} is or contains one of the sets that are read; name another folder")


def _real_address(folder: Folder) -> str:
    return folder.address.rstrip("/") if folder.path is None else os.path.realpath(folder.path)
