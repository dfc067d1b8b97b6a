"""Make finished shards a shard set: its index, and its manifest, which is written last."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, SetDescription, ShardRecord, manifest_bytes
from mps_shards.shards.sample_index import INDEX_NAME, Rows, index_bytes
from mps_shards.storage.local_disk import replacing, sync_folder
from mps_shards.storage.remote_folder import RemoteFolder

__all__ = ["Sealed", "sealed", "write_set"]


class Sealed(NamedTuple):
    """A manifest, and the files of its set but for the shards.

    Attributes:
        files: contents by name, in the order in which they must be written: the manifest comes last.
    """

    manifest: Manifest
    files: dict[str, bytes]


def sealed(description: SetDescription, shards: Sequence[ShardRecord], rows: Sequence[Rows]) -> Sealed:
    """Return the manifest of these shards, and the files of their set.

    Args:
        rows: the index rows of each shard, in the order of `shards`.
    """
    index = index_bytes([np.asarray(part) for part in rows])
    manifest = Manifest(
        **{name: getattr(description, name) for name in description.__struct_fields__},
        samples=sum(shard.samples for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        shards=tuple(shards),
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    manifest = msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())
    return Sealed(manifest, {INDEX_NAME: index, MANIFEST_NAME: manifest_bytes(manifest)})


def write_set(
    folder: Path | RemoteFolder, description: SetDescription, shards: Sequence[ShardRecord], rows: Sequence[Rows]
) -> Manifest:
    """Write the index and then the manifest of these shards, each whole or not at all; see `sealed`.

    Raises:
        StorageError: a file cannot be written.
    """
    manifest, files = sealed(description, shards, rows)
    for name, content in files.items():
        if isinstance(folder, RemoteFolder):
            folder.write(name, content)
            continue
        with replacing(folder / name) as file:
            file.write(content)
        sync_folder(folder)
    return manifest
