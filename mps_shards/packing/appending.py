"""Appending: new images become new shards of a finished set; the existing shards stay as they are.

The new shards are packed into ``OUT/.append`` like any other pack. Then they are moved beside the old shards, and the
index, the labels and at last the manifest are replaced, each by one rename. Until the last rename the old manifest is
valid: it does not name the new shards, and readers accept an index that is longer than the manifest needs.
"""

import contextlib
import dataclasses
import os
import re
import shutil
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError, DataError, ManifestError, StorageError
from mps_shards.packing.destinations.destination import SKIPPED_NAME, STATE
from mps_shards.packing.destinations.folder_lock import locked
from mps_shards.packing.destinations.local_folder import LocalDestination
from mps_shards.packing.pack_options import PackOptions
from mps_shards.packing.pack_report import PackReport
from mps_shards.packing.plan import key_of, shard_name
from mps_shards.packing.run import run_pack
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.source import Source
from mps_shards.shards.manifest import Manifest, SetDescription, ShardRecord
from mps_shards.shards.name_folding import fold_name
from mps_shards.shards.sample_labels import LABEL_TYPE
from mps_shards.shardset.contents import listed
from mps_shards.shardset.opening import APPENDING, StoredSet, open_set, read_manifest, set_folders
from mps_shards.shardset.scan import hash_of
from mps_shards.shardset.sealing import ShardContents, write_set
from mps_shards.storage.disk_sync import sync_folder, translated
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.local_disk import replacing
from mps_shards.storage.location import open_folder

__all__ = ["append_pack"]

_SHARD = re.compile(r"(.+)-(\d{6,})\.tar")
# These options may differ from those of the set: they change neither the pixels nor the fields of a sample.
_FREE = frozenset(["shard_size", "shard_samples", "split", "subset", "drop_duplicates", "check", "repeated_keys"])


def append_pack(
    source: Source,
    out: str | PathLike[str] | WritableFolder | None,
    options: PackOptions,
    **callbacks: Any,
) -> PackReport:
    """Add the images of a source that a finished set does not hold yet, as `mps_shards.pack` describes.

    Args:
        callbacks: further arguments of `run_pack`, which makes the new shards.

    Raises:
        ConfigError: there is no finished set, or the images have another task, class, split or option than the set.
        DataError: an image has the key of a sample of the set, but other content.
        StorageError: a file cannot be read or written.
    """
    began = time.monotonic()
    folder = open_folder(out or source.default_out or "")
    if folder.path is None:
        raise ConfigError(
            f"{folder}: images can be appended only to sets on this machine; reshard merges sets in a store"
        )
    place = folder.path
    if options.work.overwrite or options.work.executor == "array" or callbacks.get("dry_run"):
        raise ConfigError("append cannot be combined with overwrite, the executor 'array' or dry_run")
    with translated(place):
        folders = set_folders(folder) if place.is_dir() else []
    if not folders:
        raise ConfigError(f"{place} holds no finished set to append to; pack without --append makes one")
    with contextlib.ExitStack() as held:
        with translated(place):
            held.enter_context(locked(place / STATE, shared=False, what=str(place)))
        try:
            _merge(place)  # adds shards that an earlier call had packed before it was killed
            sets = {"" if each == folder else each.name: open_set(each, whole=True) for each in folders}
            new = _NewImages(source, sets, options)
            report = _pack_new(new, place / APPENDING, options, callbacks)
            _merge(place)
        finally:
            with contextlib.suppress(OSError):  # the lock is released in any case
                shutil.rmtree(place / STATE)
    sync_folder(place)
    if report is None:
        return PackReport(
            source=source.name,
            out=place,
            layout=f"nothing new: the set holds all {new.known:,} images already",
            sets=(),
            classes=next(iter(sets.values())).manifest.classes,
            ignored={},
            empty=(),
            seconds=time.monotonic() - began,
        )
    return dataclasses.replace(
        report,
        out=place,
        sets=tuple(dataclasses.replace(each, folder=place / each.split) for each in report.sets),
        seconds=time.monotonic() - began,
    )


def _pack_new(new: "_NewImages", staging: Path, options: PackOptions, callbacks: Any) -> PackReport | None:
    """Pack the new images into the folder `staging`; return None if there are no new images."""
    try:
        return run_pack(new, str(staging), options, **callbacks)
    except _NothingNewError:
        return None
    except ConfigError as error:
        if staging.is_dir():
            error.add_note(f"an earlier append was interrupted: repeat its command, or remove {staging}")
        raise


class _NothingNewError(Exception):
    """Raised when every image of the source is in the set already."""


class _NewImages:
    """A `Source` that lists only the images that the sets do not hold yet, with the class numbers of the sets."""

    default_out: Path | None = None

    def __init__(self, source: Source, sets: Mapping[str, StoredSet], options: PackOptions):
        self._source, self._sets, self._options = source, sets, options
        self.is_repeatable, self.is_comparable = source.is_repeatable, source.is_comparable
        self.name = source.name
        self.read, self.stamp, self.ending, self.close = source.read, source.stamp, source.ending, source.close
        self.changed_list = source.changed_list
        self.known = 0
        self._changes = options.images.alters or options.images.tiles

    def listing(self, options: Any) -> Listing:
        listing = self._source.listing(options)
        first = next(iter(self._sets.values())).manifest
        _check_options(first, self._options, self.name)
        numbers = _numbers_of(listing, first, self.name)
        splits = []
        for split in listing.splits:
            if split.name not in self._sets:
                names = ", ".join(self._sets) or "no splits"
                raise ConfigError(f"{self.name} has a split {split.name!r}, but the finished pack has {names}")
            stored = self._sets[split.name]
            if split.task != stored.manifest.task:
                raise ConfigError(
                    f"{self.name} has the task {split.task}, but {stored.folder} has the task {stored.manifest.task}"
                )
            entries = self._new_entries(split.entries, stored)
            labels = entries.labels
            labels[:] = numbers[labels]
            if len(entries):
                splits.append(Split(name=split.name, task=split.task, entries=entries))
        if not splits:
            raise _NothingNewError
        return dataclasses.replace(
            listing,
            classes=first.classes or listing.classes,
            splits=tuple(splits),
            notes=(*listing.notes, *([f"{self.known:,} images are in the set already"] if self.known else [])),
        )

    def _new_entries(self, entries: Entries, stored: StoredSet) -> Entries:
        """Return the entries whose key no sample of the set has."""
        samples = [sample for shard in stored.manifest.shards for sample in _keys_and_sizes(stored, shard.name)]
        held = np.array(samples, np.uint64).reshape(-1, 3)
        folded_keys = np.sort(held[:, 2])
        held = held[np.argsort(held[:, 0], kind="stable")]
        keys, kept = self._options.read.keys, []
        for number, entry in enumerate(entries):
            wanted = np.uint64(hash_of(key_of(entry.path, keys)))
            at = int(np.searchsorted(held[:, 0], wanted))
            if at == len(held) or held[at, 0] != wanted:
                self._refuse_colliding_key(entry, folded_keys, stored)
                kept.append(number)
                continue
            self.known += 1
            if not self._changes and entry.size and int(held[at, 1]) != entry.size:
                raise DataError(
                    f"{self.name}/{entry.path} has {entry.size} bytes, but the sample with this key in {stored.folder} "
                    f"has {held[at, 1]}. If they are different images, rename one, or pack it into a separate set"
                )
        return entries.take(kept)

    def _refuse_colliding_key(self, entry: Entry, folded_keys: npt.NDArray[np.uint64], stored: StoredSet) -> None:
        """Raise DataError if some disk would treat the key of an entry as equal to a key of the set.

        Args:
            folded_keys: sorted hashes of the folded keys of the set.
        """
        key = fold_name(key_of(entry.path, self._options.read.keys))
        at = int(np.searchsorted(folded_keys, np.uint64(hash_of(key))))
        if at == len(folded_keys) or folded_keys[at] != np.uint64(hash_of(key)):
            return
        samples = (sample for shard in stored.manifest.shards for sample in listed(stored, shard.name))
        other = next(sample.key for sample in samples if fold_name(sample.key) == key)
        raise DataError(
            f"{self.name}/{entry.path} and the sample {other} of {stored.folder} have names that differ only in case "
            "or Unicode normal form. If they are different images, rename one, or pack it into a separate set"
        )


def _keys_and_sizes(stored: StoredSet, shard: str) -> list[tuple[int, int, int]]:
    """Return for each sample of a shard a hash of its key, the bytes of its image, and a hash of its folded key."""
    found = []
    for sample in listed(stored, shard):
        sizes = [size for name, size in sample.fields.items() if name not in ("cls", "json", "txt", "mask.png")]
        found.append((hash_of(sample.key), sizes[0] if sizes else 0, hash_of(fold_name(sample.key))))
    return found


def _check_options(manifest: Manifest, options: PackOptions, name: str) -> None:
    """Refuse image options that differ from those that the set was packed with."""
    held, given = manifest.packed.options, options.recorded(None)
    for option in sorted({*held, *given} - _FREE - {"palette"}):
        if held.get(option) != given.get(option):
            raise ConfigError(
                f"the set was packed with {option} = {held.get(option)!r}, but {name} would be appended "
                f"with {given.get(option)!r}: give the same value"
            )


def _numbers_of(listing: Listing, manifest: Manifest, name: str) -> Any:
    """Return the set's class number for each class number of the source; the last entry keeps -1 (no class) as -1."""
    places = {each: number for number, each in enumerate(manifest.classes)}
    if manifest.task == "classification":
        if unknown := [each for each in listing.classes if each not in places]:
            shown = ", ".join(manifest.classes[:10]) + (" ..." if len(places) > 10 else "")
            raise ConfigError(
                f"{name} has the class {unknown[0]!r}, but the set has only {shown}, and a finished set keeps its "
                "classes. Pack the images as a separate set, and merge both with mps-shards reshard"
            )
    elif listing.classes and listing.classes != manifest.classes:
        raise ConfigError(f"{name} has other classes than the set, so equal label ids would mean different classes")
    return np.array([*(places.get(each, -1) for each in listing.classes), -1], LABEL_TYPE)


def _merge(place: Path) -> None:
    """Move finished new shards into the sets; does nothing while their pack is unfinished. Can be repeated safely."""
    staging = place / APPENDING
    with translated(place):
        # a finished pack has no plan file
        if staging.is_dir() and LocalDestination(staging).plan() is None:
            _merge_finished(place, staging)


def _merge_finished(place: Path, staging: Path) -> None:
    for staged in set_folders(open_folder(staging)):
        if staged.path is not None:
            _merge_set(place if staged.path == staging else place / staged.name, staged.path)
    skipped = staging / SKIPPED_NAME
    if skipped.exists():
        before = place / SKIPPED_NAME
        lines = (before.read_bytes() if before.exists() else b"").splitlines(keepends=True)
        new = [line for line in skipped.read_bytes().splitlines(keepends=True) if line not in lines]
        with replacing(before) as file:
            file.writelines([*lines, *new])
        sync_folder(place)
    shutil.rmtree(staging)


def _merge_set(folder: Path, staged: Path) -> None:
    old = open_set(folder, whole=True)
    digests = {shard.sha256 for shard in old.manifest.shards}
    if all(shard.sha256 in digests for shard in read_manifest(staged).shards):
        return  # an earlier call was killed after it had replaced the manifest, and perhaps removed other new files
    new = open_set(staged)
    if fault := old.labels_fault or new.index_fault or new.labels_fault:
        raise ManifestError(f"{fault}: run 'mps-shards repair' before images are appended")
    names = _next_names(old.manifest, len(new.manifest.shards))
    for shard, name in zip(new.manifest.shards, names, strict=True):
        _move(staged / shard.name, folder / name, shard)
    sync_folder(folder)
    manifest = old.manifest
    description = SetDescription(**{each: getattr(manifest, each) for each in SetDescription.__struct_fields__})
    contents = [_contents(old, shard, shard.name) for shard in manifest.shards]
    contents += [_contents(new, shard, name) for shard, name in zip(new.manifest.shards, names, strict=True)]
    write_set(open_folder(folder), description, contents, with_labels=manifest.labels_sha256 is not msgspec.UNSET)


def _move(staged: Path, target: Path, shard: ShardRecord) -> None:
    """Move a shard, unless an earlier call has moved it already."""
    if staged.exists():
        os.rename(staged, target)
    elif not target.exists() or target.stat().st_size != shard.bytes:
        raise StorageError(f"the shard to append, {target}, is missing; remove {staged.parent} and append again")


def _next_names(manifest: Manifest, count: int) -> list[str]:
    """Return file names for new shards that follow the last name of the set."""
    matches = [match for shard in manifest.shards if (match := _SHARD.fullmatch(shard.name))]
    prefix = matches[-1][1] if matches else "shard"
    first = max((int(match[2]) for match in matches if match[1] == prefix), default=-1) + 1
    return [shard_name(prefix, first + number) for number in range(count)]


def _contents(stored: StoredSet, shard: ShardRecord, name: str) -> ShardContents:
    record = msgspec.structs.replace(shard, name=name)
    labels = stored.labels.get(shard.name, np.full(shard.samples, -1, LABEL_TYPE))
    return ShardContents(record, stored.rows[shard.name], labels)
