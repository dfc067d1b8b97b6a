"""Sealing of shard sets: write index, labels and then the manifest of finished shards."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from mps_shards.errors import DataError
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, SetDescription, ShardRecord, manifest_bytes
from mps_shards.shards.sample_index import INDEX_NAME, Rows, index_bytes
from mps_shards.shards.sample_labels import LABELS_NAME, labels_bytes
from mps_shards.storage.folder import WritableFolder

__all__ = ["Sealed", "ShardContents", "add_labels", "sealed", "write_set"]


class Sealed(NamedTuple):
    """A manifest, and the files of its set without the shards.

    Attributes:
        files: file contents by name, in the order in which they must be written; the manifest is the last one.
    """

    manifest: Manifest
    files: dict[str, bytes]


class ShardContents(NamedTuple):
    """One finished shard: its record, its index rows, and the class id of each of its samples (-1 for none)."""

    record: ShardRecord
    rows: Rows
    labels: npt.NDArray[Any]


def sealed(description: SetDescription, shards: Sequence[ShardContents], *, with_labels: bool = True) -> Sealed:
    """Return the manifest of these shards, and the files of their set.

    Args:
        with_labels: include ``labels.npy``, which only a set for classification can have.
    """
    records = tuple(shard.record for shard in shards)
    index = index_bytes([np.asarray(shard.rows) for shard in shards])
    with_labels = with_labels and description.task == "classification"
    labels = labels_bytes([shard.labels for shard in shards]) if with_labels else None
    manifest = Manifest(
        **{name: getattr(description, name) for name in description.__struct_fields__},
        samples=sum(record.samples for record in records),
        bytes=sum(record.bytes for record in records),
        shards=records,
        index_sha256=hashlib.sha256(index).hexdigest(),
        labels_sha256=UNSET if labels is None else hashlib.sha256(labels).hexdigest(),
    )
    manifest = msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())
    optional = {} if labels is None else {LABELS_NAME: labels}
    return Sealed(manifest, {INDEX_NAME: index, **optional, MANIFEST_NAME: manifest_bytes(manifest)})


def write_set(
    folder: WritableFolder,
    description: SetDescription,
    shards: Sequence[ShardContents],
    *,
    with_labels: bool = True,
) -> Manifest:
    """Write index, labels and then the manifest of these shards. Each file is written completely or not at all.

    Raises:
        StorageError: a file cannot be written.
    """
    manifest, files = sealed(description, shards, with_labels=with_labels)
    _write(folder, files)
    return manifest


def add_labels(folder: WritableFolder, manifest: Manifest, labels: Sequence[npt.NDArray[Any]]) -> Manifest:
    """Write ``labels.npy`` for a finished set without this file, and a manifest that names the file.

    Args:
        labels: the class ids of each shard's samples, in the manifest's order.

    Raises:
        DataError: a class number exceeds int32 and cannot be stored in ``labels.npy``.
        StorageError: a file cannot be written.
    """
    content = labels_bytes(labels)
    if content is None:
        raise DataError(f"{folder} has class numbers above {2**31 - 1}, which {LABELS_NAME} cannot hold")
    manifest = msgspec.structs.replace(manifest, labels_sha256=hashlib.sha256(content).hexdigest())
    _write(folder, {LABELS_NAME: content, MANIFEST_NAME: manifest_bytes(manifest)})
    return manifest


def _write(folder: WritableFolder, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        folder.write(name, content)
