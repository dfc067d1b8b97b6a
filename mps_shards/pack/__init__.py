"""Files -> shards: list a folder, plan the shards, write each, then index and manifest.

Monopoly: making shard sets. Never imports torch, so that packing starts at once.
May import: shards, storage, errors, metrics.
"""

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mps_shards.pack.layouts.listing import Listing
    from mps_shards.pack.run import PackReport, Progress

__all__ = ["pack"]


def pack(
    source: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    layout: Literal["auto", "classes", "splits", "flat"] = "auto",
    shard_size: str | int = "256MB",
    shard_samples: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    keys: Literal["stem", "name"] = "stem",
    workers: int | None = None,
    on_listing: "Callable[[Listing], None] | None" = None,
    on_progress: "Progress | None" = None,
) -> "PackReport":
    """Pack a folder of images into a shard set, or one for each split. The source is never changed.

    Equal folders and options give equal bytes, whatever the number of workers. The manifest is written last: a folder
    without one is not finished. If packing fails, `out` is left as it was.

    Args:
        source: class folders (``cat/x.jpg``), split and class folders (``train/cat/x.jpg``), or a flat folder.
        out: an absent or empty folder; by default `source` with ``-shards`` appended.
        layout: how to read the source; "auto" finds out.
        shard_size: bytes of a shard at most, as ``"256MB"``, ``"1GiB"`` or a number.
        shard_samples: samples of a shard instead.
        shuffle: mix the samples over the shards, by `seed`; else they keep the order of their paths.
        keys: "stem" names samples by path without extension; "name" keeps it, for ``a.jpg`` beside ``a.png``.
        workers: threads, one shard each at a time; by default the cores, 8 at most.
        on_listing: told what was found, before anything is written.
        on_progress: told (samples, bytes) written since its last call, from the worker threads.

    Raises:
        ConfigError: an option cannot work, no images, or `out` is not empty.
        DataError: a file is empty, no image, changed meanwhile, or shares a key with another.
        StorageError: something cannot be read or written.
    """
    import os
    from pathlib import Path

    from mps_shards.pack.run import PackOptions, run_pack

    folder = Path(source)
    place = Path(out if out is not None else os.path.abspath(folder) + "-shards")
    options = PackOptions(
        layout=layout,
        shard_size=shard_size,
        shard_samples=shard_samples,
        shuffle=shuffle,
        seed=seed,
        keys=keys,
        workers=workers,
    )
    return run_pack(
        folder,
        place,
        options,
        on_listing=on_listing or (lambda listing: None),
        on_progress=on_progress or (lambda samples, size: None),
    )
