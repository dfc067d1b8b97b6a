"""The samples of a set as a list: keys, sizes, labels, fields; no image is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mps_shards.errors import ShardError
from mps_shards.shards.field_choice import NO_TARGET, FieldChoice, is_mask
from mps_shards.shards.key_names import is_hidden, split_member
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.sample_index import Rows
from mps_shards.shards.sample_labels import LABEL_TYPE, Labels
from mps_shards.shards.tar import REGULAR, walk
from mps_shards.shardset.opening import StoredSet, check_size
from mps_shards.shardset.scan import scan_shard
from mps_shards.storage.open_files import AnyReader
from mps_shards.storage.remote_folder import RemoteFile

__all__ = ["Listed", "keys_in", "labels_in", "listed"]


class Listed(NamedTuple):
    """One sample: where it lies, its key, the bytes of its fields by name, and its label (-1 without one)."""

    shard: str
    sample: int
    key: str
    label: int
    fields: dict[str, int]


def listed(stored: StoredSet, shard: str) -> Iterator[Listed]:
    """The samples of one shard in order, by a few small reads each.

    Raises:
        ShardError: a header is damaged.
        DecodeError: a label is no class number, or the target is in doubt.
        StorageError: the shard cannot be read.
    """
    file = stored.folder / shard
    if isinstance(file, RemoteFile):
        check_size(file, next(record for record in stored.manifest.shards if record.name == shard))
    return _listed(file, stored.rows[shard], stored.choice)


def keys_in(file: Path | RemoteFile, rows: Rows) -> Iterator[str]:
    """The keys of these samples of a shard, by a few small reads each. Raises ShardError and StorageError."""
    return (sample.key for sample in _listed(file, rows, FieldChoice(target=(NO_TARGET,))))


def labels_in(file: Path | RemoteFile, rows: Rows, choice: FieldChoice) -> Labels:
    """Return the class id of each sample of a shard, by a few small reads each; a shard in a store is streamed.

    Raises:
        ShardError: a header is damaged.
        DecodeError: a label is no class number, or the target is in doubt.
        StorageError: the shard cannot be read.
    """
    if isinstance(file, Path):
        return np.fromiter((sample.label for sample in _listed(file, rows, choice)), LABEL_TYPE, len(rows))
    scan = scan_shard(file, choice=choice)
    if scan.faults:
        raise ShardError(f"shard {file}: {scan.faults[0].detail}")
    return scan.labels.astype(LABEL_TYPE)


def _listed(file: Path | RemoteFile, rows: Rows, choice: FieldChoice) -> Iterator[Listed]:
    reader, label_bytes, shard = AnyReader(), choice.label_bytes(), file.name
    for number, (offset, size, _) in enumerate(rows.tolist()):

        def read(start: int, stop: int, offset: int = offset) -> bytes:
            return reader.read_of(file, offset + start, stop - start)

        key, fields = "", {}
        contents: dict[str, Buffer] = {}
        for entry in walk(read, size, where=f"shard {shard}"):
            if entry.kind in REGULAR and not is_hidden(entry.name):
                key, field = split_member(entry.name)
                fields[field] = entry.stop - entry.start
                most = label_bytes.get(field, 0)
                contents[field] = read(entry.start, min(entry.stop, entry.start + most)) if most else b""
        raw = RawSample(key=key, shard=shard, fields=contents)
        target = choice.target_field(raw)
        label = -1 if target is None or is_mask(target) else choice.label(raw, target)
        yield Listed(shard, number, key, label, fields)
    reader.close()
