"""Listing of the samples of a set: keys, sizes, targets and fields, without reading images."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mps_shards.errors import ShardError
from mps_shards.shards.field_choice import NO_TARGET, FieldChoice
from mps_shards.shards.key_names import is_hidden, split_member
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.sample_index import Rows
from mps_shards.shards.sample_labels import LABEL_TYPE, Labels
from mps_shards.shards.tar import REGULAR, walk
from mps_shards.shardset.conditions import MAX_TEXT, Condition
from mps_shards.shardset.opening import StoredSet, check_size
from mps_shards.shardset.scan import scan_shard
from mps_shards.storage.folder import File

__all__ = ["Listed", "keys_in", "labels_in", "listed"]


class Listed(NamedTuple):
    """A sample as `mps-shards ls` lists it.

    Attributes:
        shard, sample: name of the sample's shard, and the sample's number in the shard.
        label: class index; -1 for a sample without a label.
        fields: size of each field in bytes, by name.
        target: class indices, numbers by column, or caption, depending on the task of the set.
    """

    shard: str
    sample: int
    key: str
    label: int
    fields: dict[str, int]
    target: Any = None


def listed(stored: StoredSet, shard: str, where: Sequence[Condition] = ()) -> Iterator[Listed]:
    """List the samples of one shard in order, with a few small reads per sample.

    Args:
        where: conditions that all must hold.

    Raises:
        ShardError: a header is damaged.
        DecodeError: a label is not a class number, or the target is ambiguous.
        StorageError: the shard cannot be read.
    """
    file = stored.folder / shard
    if file.folder.waits:  # opening a local set has checked the size already
        check_size(file, next(record for record in stored.manifest.shards if record.name == shard))
    return _listed(file, stored.rows[shard], stored.choice, where)


def keys_in(file: File, rows: Rows) -> Iterator[str]:
    """Return the keys of some samples of a shard, with a few small reads each. Raises ShardError and StorageError."""
    return (sample.key for sample in _listed(file, rows, FieldChoice(target=(NO_TARGET,))))


def labels_in(file: File, rows: Rows, choice: FieldChoice) -> Labels:
    """Return the class id of each sample of a shard, by a few small reads each; a shard in a store is streamed.

    Raises:
        ShardError: a header is damaged.
        DecodeError: a label is not a class number, or the target is in doubt.
        StorageError: the shard cannot be read.
    """
    if not file.folder.waits:
        return np.fromiter((sample.label for sample in _listed(file, rows, choice)), LABEL_TYPE, len(rows))
    scan = scan_shard(file, choice=choice)
    if scan.faults:
        raise ShardError(f"shard {file}: {scan.faults[0].detail}")
    return scan.labels.astype(LABEL_TYPE)


def _listed(file: File, rows: Rows, choice: FieldChoice, where: Sequence[Condition] = ()) -> Iterator[Listed]:
    shard = file.name
    most_bytes = choice.label_bytes()
    most_bytes |= {condition.content: MAX_TEXT for condition in where if condition.content}
    for number, (offset, size, _) in enumerate(rows.tolist()):

        def read(start: int, stop: int, offset: int = offset) -> bytes:
            return bytes(file.read(offset + start, offset + stop))

        key, fields = "", {}
        contents: dict[str, Buffer] = {}
        for entry in walk(read, size, where=f"shard {shard}"):
            if entry.kind in REGULAR and not is_hidden(entry.name):
                key, field = split_member(entry.name)
                fields[field] = entry.stop - entry.start
                most = most_bytes.get(field, 0)
                contents[field] = read(entry.start, min(entry.stop, entry.start + most)) if most else b""
        raw = RawSample(key=key, shard=shard, fields=contents)
        target = choice.target_field(raw)
        label = choice.class_number(raw, target)
        others = choice.value(raw, target) if target is not None and choice.has_other_targets else None
        sample = Listed(shard, number, key, label, fields, others)
        if all(condition.holds(sample, raw) for condition in where):
            yield sample
