"""Run a pack: list, plan, write the shards on threads, then the indexes, and the manifests last."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from mps_shards.errors import ConfigError, StorageError
from mps_shards.pack.layouts.folders import Layout, list_folders
from mps_shards.pack.layouts.listing import Listing, Split
from mps_shards.pack.plan import Keys, ShardPlan, parse_size, plan_shards
from mps_shards.pack.write import WrittenShard, write_shard
from mps_shards.shards.index import INDEX_NAME, index_bytes
from mps_shards.shards.keyed import check_seed
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, Packed, manifest_bytes
from mps_shards.storage.local import PART, replacing, sync_folder

__all__ = ["PackOptions", "PackReport", "PackedSet", "Progress", "run_pack"]

Progress = Callable[[int, int], None]  # samples and bytes written since the last call; called from any worker thread


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How to pack; `mps_shards.pack` documents each."""

    layout: Layout = "auto"
    shard_size: str | int = "256MB"
    shard_samples: int | None = None
    shuffle: bool = True
    seed: int = 0
    keys: Keys = "stem"
    workers: int | None = None

    def __post_init__(self) -> None:
        parse_size(self.shard_size)
        check_seed(self.seed)
        for name in ("shard_samples", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.keys not in ("stem", "name"):
            raise ConfigError(f"keys must be 'stem' or 'name', not {self.keys!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSet:
    """One finished shard set."""

    split: str
    folder: Path
    task: str
    samples: int
    shards: int
    bytes: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What a pack did.

    Attributes:
        layout: what the source was recognised as, in words.
        sets: one for each split.
        classes: class names; a label is a place in this list.
        ignored: how many files were no images, by extension.
        empty: class folders without an image.
    """

    source: Path
    out: Path
    layout: str
    sets: tuple[PackedSet, ...]
    classes: tuple[str, ...]
    ignored: dict[str, int]
    empty: tuple[str, ...]
    seconds: float


def run_pack(
    source: Path,
    out: Path,
    options: PackOptions,
    *,
    on_listing: Callable[[Listing], None] = lambda listing: None,
    on_progress: Progress = lambda samples, size: None,
) -> PackReport:
    """Pack `source` into `out`. See `mps_shards.pack`."""
    began = time.monotonic()
    if not source.is_dir():
        raise StorageError(f"{source}: {'not a directory' if source.exists() else 'no such directory'}")
    listing = list_folders(source, layout=options.layout, by_name=options.keys == "name")
    on_listing(listing)
    plans = [_plans(split, options) for split in listing.splits]
    with _fresh_folder(out):
        folders = [out / split.name for split in listing.splits]
        written = _write_all(source, plans, folders, options.workers, on_progress)
        sets = []
        for split, folder, shards in zip(listing.splits, folders, written, strict=True):
            sets.append(_finish(split, folder, shards, listing, options))
    return PackReport(
        source=source,
        out=out,
        layout=listing.describe(),
        sets=tuple(sets),
        classes=listing.classes,
        ignored=dict(listing.ignored),
        empty=listing.empty,
        seconds=time.monotonic() - began,
    )


def _plans(split: Split, options: PackOptions) -> list[ShardPlan]:
    return plan_shards(
        split.entries,
        prefix=split.name or "shard",
        shard_bytes=parse_size(options.shard_size),
        shard_samples=options.shard_samples,
        shuffle_seed=options.seed if options.shuffle else None,
        keys=options.keys,
    )


@contextlib.contextmanager
def _fresh_folder(out: Path) -> Iterator[None]:
    """Hold a folder that was empty or absent; leave it so if the block fails."""
    existed = out.exists()
    try:
        if existed and (not out.is_dir() or any(out.iterdir())):
            unfinished = out.is_dir() and not any(out.rglob(MANIFEST_NAME)) and any(out.rglob("*.tar*"))
            what = "holds an unfinished pack" if unfinished else "is not empty" if out.is_dir() else "is no directory"
            raise ConfigError(f"{out} {what}; remove it or name another place")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}") from error
    try:
        yield
    except BaseException:
        for item in out.iterdir():  # all of it is ours: the folder was empty
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        if not existed:
            out.rmdir()
        raise


def _write_all(
    source: Path, plans: list[list[ShardPlan]], folders: list[Path], workers: int | None, on_progress: Progress
) -> list[list[WrittenShard]]:
    """Write every shard of every set; the first failure stops the rest at their next sample."""
    stopped = False

    def on_sample(size: int) -> None:
        if stopped:
            raise KeyboardInterrupt
        on_progress(1, size)

    for folder in folders:
        try:
            folder.mkdir(exist_ok=True)
            # from the first moment to the last: a folder with a .part is never taken for a finished set
            (folder / (MANIFEST_NAME + PART)).touch()
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}") from error
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), thread_name_prefix="mps-shards-pack") as pool:
        tasks = [
            [pool.submit(write_shard, source, plan, folder, on_sample=on_sample) for plan in shards]
            for shards, folder in zip(plans, folders, strict=True)
        ]
        everything = [task for shards in tasks for task in shards]
        try:
            done, _ = wait(everything, return_when=FIRST_EXCEPTION)
            for task in done:
                task.result()
        except BaseException:
            stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    return [[task.result() for task in shards] for shards in tasks]


def _finish(
    split: Split, folder: Path, shards: list[WrittenShard], listing: Listing, options: PackOptions
) -> PackedSet:
    """Write index and manifest; the manifest comes last and makes the set one."""
    import hashlib
    from importlib.metadata import version

    index = index_bytes([shard.rows for shard in shards])
    with replacing(folder / INDEX_NAME) as file:
        file.write(index)
    manifest = Manifest(
        task=split.task,
        classes=listing.classes if split.task == "classification" else (),
        samples=sum(shard.record.samples for shard in shards),
        bytes=sum(shard.record.bytes for shard in shards),
        shards=tuple(shard.record for shard in shards),
        index_sha256=hashlib.sha256(index).hexdigest(),
        packed=Packed(
            version=version("mps-shards"),
            layout=listing.layout,
            seed=options.seed if options.shuffle else None,
            options={
                "shard_size": parse_size(options.shard_size),
                "shard_samples": options.shard_samples,
                "keys": options.keys,
            },
        ),
    )
    sync_folder(folder)
    with replacing(folder / MANIFEST_NAME) as file:
        file.write(manifest_bytes(manifest))
    sync_folder(folder)
    return PackedSet(
        split=split.name,
        folder=folder,
        task=split.task,
        samples=manifest.samples,
        shards=len(shards),
        bytes=manifest.bytes,
        fingerprint=manifest.computed_fingerprint(),
    )
