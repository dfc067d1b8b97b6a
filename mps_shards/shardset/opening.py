"""Opening of shard sets: find and parse the manifest once, and load the index that the manifest describes.

Only this module reads ``manifest.json`` and ``index.npy``, for reading, packing and maintenance.
"""

import functools
import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from mps_shards.errors import ManifestError, ShardError, StorageError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, ShardRecord, parse_manifest
from mps_shards.shards.name_folding import find_colliding_names
from mps_shards.shards.npy_file import array_in
from mps_shards.shards.sample_index import INDEX_NAME, ROW, Rows, check_rows, index_bytes
from mps_shards.shards.sample_labels import LABEL_TYPE, LABELS_NAME, Labels, labels_bytes
from mps_shards.storage.folder import File, FileMissing, Folder
from mps_shards.storage.local_disk import PART
from mps_shards.storage.location import open_folder

__all__ = [
    "APPENDING",
    "TARS",
    "StoredSet",
    "check_size",
    "find_manifest",
    "load_index",
    "load_labels",
    "open_set",
    "read_manifest",
    "set_folders",
    "tars_in",
]

APPENDING = ".append"  # folder in a set, or beside the sets of a pack, in which ``pack --append`` makes new shards
TARS = (".tar", ".tar.gz", ".tgz")  # files that can be streamed without an index

_MAX_MANIFEST = 1 << 28  # bytes; a million shards need 150 MB
_MAX_ARRAY = 1 << 30  # bytes of an index in a store, which is held in memory: 67 million samples


def find_manifest(folder: Folder, names: Sequence[str] | None = None) -> Manifest | None:
    """Return the manifest of a shard set, or None for tars that have none and can only be streamed.

    Args:
        names: the chosen tars; a manifest that does not list all of them is ignored.

    Raises:
        ManifestError: the manifest is malformed, or the folder holds neither a manifest nor tars.
        StorageError: the folder cannot be read, or holds an unfinished pack.
    """
    manifest = _parsed_manifest(folder)
    if manifest is not None:
        listed = {shard.name for shard in manifest.shards}
        return manifest if names is None or listed.issuperset(names) else None
    if names is None:
        _check_finished(folder)
        if not folder.waits and not any(name.endswith(TARS) for name in folder.names()):
            raise _no_manifest(folder)
    return None


def read_manifest(folder: Folder | str | os.PathLike[str]) -> Manifest:
    """Return the manifest of a shard set.

    Raises:
        ManifestError: the manifest is missing or malformed. The message names the sets below the folder, if any.
        StorageError: the folder cannot be read, or holds an unfinished pack.
    """
    folder = open_folder(folder)
    manifest = _parsed_manifest(folder)
    if manifest is None:
        _check_finished(folder)
        raise _no_manifest(folder)
    return manifest


def _parsed_manifest(folder: Folder) -> Manifest | None:
    folder.check()
    if not folder.has(MANIFEST_NAME):
        return None
    content = folder.read_file(MANIFEST_NAME, max_bytes=_MAX_MANIFEST)
    manifest = parse_manifest(content, where=str(folder / MANIFEST_NAME))
    _refuse_shared_files(folder, manifest)
    return manifest


def _refuse_shared_files(folder: Folder, manifest: Manifest) -> None:
    """Raise ShardError if two shards are one file, because the disk does not distinguish their names."""
    pair = find_colliding_names(each.name for each in manifest.shards) if folder.path is not None else None
    if pair and folder.path is not None:
        one, other = (folder.path / name for name in pair)
        if one.exists() and other.exists() and one.samefile(other):
            raise ShardError(
                f"{one} and {other} are one file on this disk, which does not distinguish their names; copy the set to "
                "a disk that does"
            )


def _check_finished(folder: Folder) -> None:
    marker = MANIFEST_NAME + PART
    if folder.waits:  # not every store can list
        unfinished = marker if folder.has(marker) else None
    else:
        unfinished = next((name for name in folder.names() if name.endswith(PART)), None)
    if unfinished:
        raise StorageError(f"{folder} holds an unfinished pack ({unfinished}); pack again")


def _no_manifest(folder: Folder) -> ManifestError:
    hint = "it is not a finished shard set"
    if below := set_folders(folder):
        hint = f"name one of the sets in it: {', '.join(map(str, below))}"
    elif folder.waits or tars_in(folder):
        hint = "for tars of other tools, see mps-shards index"
    return ManifestError(f"{folder} has no {MANIFEST_NAME}; {hint}")


def load_index(file: File, manifest: Manifest, *, check_digest: bool) -> Rows:
    """Return all rows of an index: memory-mapped from a local disk, held in memory from a store.

    Args:
        check_digest: compare a local index with the manifest's SHA-256. An index in a store is always compared.

    Raises:
        ManifestError: the file is not the index that the manifest describes.
        StorageError: the index cannot be read.
    """
    return _load_array(file, "index", ROW, manifest.samples, manifest.index_sha256, check_digest=check_digest)


def load_labels(file: File, manifest: Manifest) -> Labels | None:
    """Return the class id of each sample from ``labels.npy``; None for a set without that file.

    Raises:
        ManifestError: the file is not the one that the manifest describes.
        StorageError: the file cannot be read.
    """
    if manifest.labels_sha256 is UNSET:
        return None
    return _load_array(file, "array of labels", LABEL_TYPE, manifest.samples, manifest.labels_sha256, check_digest=True)


def _load_array(
    file: File, what: str, dtype: np.dtype[Any], samples: int, sha256: str, *, check_digest: bool
) -> npt.NDArray[Any]:
    content = file.folder.map_file(file.name, max_bytes=_MAX_ARRAY)
    try:
        found = array_in(content)
    except ValueError as error:
        raise ManifestError(f"{file} is not an {what}: {error}") from error
    if found.dtype == dtype and found.ndim == 1 and len(found) > samples:
        # appending was interrupted before the manifest was replaced: the old manifest describes the beginning
        beginning = found[:samples]
        old = index_bytes([beginning]) if dtype == ROW else labels_bytes([beginning]) or b""
        if hashlib.sha256(old).hexdigest() == sha256:
            return beginning
    if found.dtype != dtype or found.shape != (samples,):
        raise ManifestError(
            f"{file} has {found.shape} rows of {found.dtype}, but the manifest says {samples} of {dtype}"
        )
    if not check_digest and not file.folder.waits:
        return found
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ManifestError(
            f"{file} has SHA-256 {digest[:12]}…, but its manifest says {sha256[:12]}…: run 'mps-shards repair'"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """An opened shard set for maintenance: its manifest, and the checked rows of its index by shard name.

    Attributes:
        index_fault: description of a fault of the index; then `rows` is empty.
        labels: class ids by shard name; empty if ``labels.npy`` is missing or has a fault.
        labels_fault: description of a fault of ``labels.npy``.
    """

    folder: Folder
    manifest: Manifest
    rows: Mapping[str, Rows] = field(repr=False)
    index_fault: str | None
    labels: Mapping[str, Labels] = field(default_factory=dict, repr=False)
    labels_fault: str | None = None

    @functools.cached_property
    def choice(self) -> FieldChoice:
        """Choice of the fields that hold the image and the target of a sample."""
        manifest = self.manifest
        recorded = FieldChoice.recorded(manifest.packed.options) or FieldChoice()
        return recorded.of_kind(manifest.task, manifest.column_names).naming(manifest.classes)

    def content(self, shard: str, number: int) -> bytes:
        """Return the tar blocks of one sample.

        Raises:
            ShardError: the blocks differ from those that the index describes.
            StorageError: the blocks cannot be read.
        """
        offset, size, crc32 = self.rows[shard][number].item()
        content = bytes(self.folder.read(shard, offset, offset + size))
        if zlib.crc32(content) != crc32:
            raise ShardError(
                f"sample number {number} of {self.folder / shard} is damaged: its bytes have CRC-32 "
                f"{zlib.crc32(content):08x}, but the index says {crc32:08x}; see mps-shards verify and repair"
            )
        return content


def open_set(folder: Folder | str | os.PathLike[str], *, whole: bool = False) -> StoredSet:
    """Open a shard set for maintenance.

    Args:
        whole: require a correct index, and that each tar of a local folder has the size that the manifest states.

    Raises:
        ManifestError: the manifest is missing or malformed; with `whole`, also if the index does not fit it.
        ShardError: a tar has a wrong size, and `whole` is set.
        StorageError: a file is missing or cannot be read.
    """
    folder = open_folder(folder)
    manifest = read_manifest(folder)
    fault, rows = None, {}
    try:
        rows = _rows_by_shard(folder / INDEX_NAME, manifest)
    except (ManifestError, FileMissing) as error:  # a file that cannot be read now may be a good one
        fault = str(error)
    if whole:
        if fault:
            raise ManifestError(fault if "mps-shards repair" in fault else f"{fault}: run 'mps-shards repair'")
        for shard in () if folder.waits else manifest.shards:
            check_size(folder / shard.name, shard)
    labels, labels_fault = None, None
    try:
        labels = load_labels(folder / LABELS_NAME, manifest)
    except (ManifestError, FileMissing) as error:
        labels_fault = str(error)
    return StoredSet(
        folder=folder,
        manifest=manifest,
        rows=rows,
        index_fault=fault,
        labels={} if labels is None else _by_shard(manifest, labels),
        labels_fault=labels_fault,
    )


def _rows_by_shard(file: File, manifest: Manifest) -> dict[str, Rows]:
    by_shard = _by_shard(manifest, load_index(file, manifest, check_digest=True))
    for shard in manifest.shards:
        check_rows(shard.name, by_shard[shard.name], shard_bytes=shard.bytes)
    return by_shard


def _by_shard(manifest: Manifest, values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    starts = accumulate((shard.samples for shard in manifest.shards), initial=0)
    return {
        shard.name: values[start : start + shard.samples] for shard, start in zip(manifest.shards, starts, strict=False)
    }


def check_size(file: File, shard: ShardRecord, size: int | None = None) -> None:
    """Raise ShardError unless a tar has the size that its manifest states.

    Args:
        size: size of the tar in bytes, if it is known already.
    """
    size = file.size() if size is None else size
    if size != shard.bytes:
        raise ShardError(
            f"shard {file} has {size} bytes, but its manifest says {shard.bytes}; see mps-shards verify and repair"
        )


def set_folders(folder: Folder) -> list[Folder]:
    """Return the shard sets directly below a folder, sorted; the folder alone if it is one. Empty if there are none."""
    if folder.has(MANIFEST_NAME):
        return [folder]
    try:
        names = folder.subfolders()
    except FileMissing:
        return []
    except StorageError:
        if not folder.waits:
            raise
        return []  # not every store can list
    return [each for each in map(folder.folder, names) if each.has(MANIFEST_NAME)]


def tars_in(folder: Folder) -> list[str]:
    """Return the file names of the uncompressed tars directly in a folder, sorted."""
    return [name for name in folder.names() if name.endswith(".tar")]
