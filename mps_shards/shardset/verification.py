"""Verification of a shard set: every byte is read once, and every problem is reported."""

import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mps_shards.errors import DataError, DecodeError, ShardError, StorageError
from mps_shards.shards.field_choice import is_mask
from mps_shards.shards.key_names import split_member
from mps_shards.shards.manifest import Manifest, ShardRecord
from mps_shards.shards.raw_sample import MASK_FIELD, Buffer
from mps_shards.shards.sample_index import INDEX_NAME, Rows
from mps_shards.shards.sample_labels import LABELS_NAME
from mps_shards.shards.tar import sample_from, walk
from mps_shards.shardset.opening import APPENDING, StoredSet, open_set
from mps_shards.shardset.repeated_keys import repeated_keys_in
from mps_shards.shardset.scan import Fault, Hashes, Scan, scan_shard
from mps_shards.shardset.staged_changes import ASIDE, is_unfinished
from mps_shards.storage.disk_sync import translated
from mps_shards.storage.folder import File, Folder
from mps_shards.storage.local_disk import PART
from mps_shards.storage.location import open_folder
from mps_shards.storage.ordered_map import ordered_map, raise_if_stopped

__all__ = ["Problem", "VerifyReport", "damaged_rows", "target_faults", "verify", "whole_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem of a shard set.

    Attributes:
        kind: two or three words; equal problems have equal kinds.
        where: name of the file.
        sample: number of the sample in its shard; None if the problem is not about one sample.
        key: key of the sample, if it could be read.
        detail: description with the numbers.
    """

    kind: str
    where: str
    detail: str
    sample: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Result of a verification.

    Attributes:
        bytes: number of bytes read from the tars.
        decoded: whether every image, label map and target was decoded as well.
    """

    folder: str
    shards: int
    samples: int
    bytes: int
    decoded: bool
    seconds: float
    problems: tuple[Problem, ...]


def verify(
    folder: Folder | str | os.PathLike[str],
    *,
    decode: bool = False,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda size: None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> VerifyReport:
    """Check the tars of a set against manifest and index: sizes, SHA-256, headers, counts, keys, labels, rows.

    Uses 8 bytes of memory per sample to find repeated keys. Tars in a store are streamed.

    Args:
        decode: decode every image and label map as well, images in the same way as training.
        workers: number of shards to read at the same time; the available cores by default.
        on_start: called with the number of bytes to read.
        on_progress: called with the number of bytes read since its last call, from any thread.

    Raises:
        ManifestError: the manifest is missing or malformed.
        StorageError: a file cannot be read.
    """
    began = time.monotonic()
    folder = open_folder(folder)
    stored = open_set(folder)
    names = _names(stored)
    problems = [*_problems_of_names(stored, names), *_problems_of_metadata(stored)]
    present = set(names)
    records = [shard for shard in stored.manifest.shards if shard.name in present]
    tars = [folder / record.name for record in records]
    on_start(sum(file.size() for file in tars))
    hashes: list[Hashes] = []
    size = 0
    checks = ordered_map(
        lambda record: _check(stored, record, decode=decode, on_progress=on_progress),
        records,
        workers=workers,
        name="mps-shards-verify",
    )
    for scan, wrong in checks:
        problems += wrong
        hashes.append(scan.hashes)
        size += scan.record.bytes
    if not stored.manifest.packed.options.get("repeated_keys"):  # tars of other tools may repeat keys
        problems += _duplicate_keys(tars, hashes)
    return VerifyReport(
        folder=str(folder),
        shards=len(tars),
        samples=sum(len(part) for part in hashes),
        bytes=size,
        decoded=decode,
        seconds=time.monotonic() - began,
        problems=tuple(problems),
    )


def _names(stored: StoredSet) -> list[str]:
    """Return the names of the files in the folder; for a store that cannot list, the existing tars of the manifest."""
    try:
        return stored.folder.names()
    except StorageError:
        if not stored.folder.waits:
            raise
        return [shard.name for shard in stored.manifest.shards if stored.folder.has(shard.name)]


def _problems_of_names(stored: StoredSet, names: Sequence[str]) -> Iterator[Problem]:
    """Yield missing files, and files that do not belong to the set."""
    listed = {shard.name: shard for shard in stored.manifest.shards}
    present = set(names)
    for shard in listed.values():
        if shard.name not in present:
            yield Problem(kind="missing shard", where=shard.name, detail=f"its {shard.samples} samples are missing")
    path = stored.folder.path
    if path is not None:
        with translated(path):
            if any((place / APPENDING).is_dir() for place in (path, path.parent)):
                return  # files of an interrupted append are not extra: the repeated command uses them
    for name in names:
        if name.endswith(".tar") and name not in listed:
            yield Problem(kind="extra shard", where=name, detail="the manifest does not list it")
    for name in names:
        if name.endswith(PART):
            yield Problem(kind="unfinished file", where=name, detail="an interrupted run left it")


def _problems_of_metadata(stored: StoredSet) -> Iterator[Problem]:
    """Yield the problems that are found without reading a tar."""
    if is_unfinished(stored.folder):
        yield Problem(kind="unfinished repair", where=ASIDE, detail="run 'mps-shards repair' again")
    if stored.index_fault:
        yield Problem(kind="stale index", where=INDEX_NAME, detail=stored.index_fault)
    if stored.labels_fault:
        yield Problem(kind="stale labels", where=LABELS_NAME, detail=stored.labels_fault)


def _duplicate_keys(tars: Sequence[File], hashes: Sequence[Hashes]) -> Iterator[Problem]:
    for repetition in repeated_keys_in(tars, hashes):
        yield Problem(
            kind="duplicate key",
            where=tars[repetition.shard].name,
            detail=f"{tars[repetition.first].name} also holds the key {repetition.key!r}",
            sample=repetition.sample,
            key=repetition.key,
        )


def whole_rows(file: File, rows: Rows) -> Rows:
    """Return the rows up to the first one that ends beyond the end of the file."""
    return rows[: int(np.sum(rows["offset"] + rows["size"] <= file.size()))]


def damaged_rows(file: File, rows: Rows) -> Iterator[tuple[int, str | None, str]]:
    """Yield number, key (None if unreadable) and description of each sample whose bytes differ from the index."""
    for number, (offset, size, crc32) in enumerate(rows.tolist()):
        content = file.read(offset, offset + size)
        if (actual := zlib.crc32(content)) != crc32:
            yield number, _key(content), f"its bytes have CRC-32 {actual:08x}, but the index says {crc32:08x}"


def _key(content: Buffer) -> str | None:
    """Return the key from the first header alone, because the rest may be damaged."""
    try:
        first = next(walk(lambda start, stop: bytes(content[start:stop]), len(content), where=""), None)
        return split_member(first.name)[0] if first else None
    except DataError:
        return None


def _check(
    stored: StoredSet, record: ShardRecord, *, decode: bool, on_progress: Callable[[int], None]
) -> tuple[Scan, list[Problem]]:
    """Check one shard against its record and its rows."""
    path = stored.folder / record.name
    scan = scan_shard(path, choice=stored.choice, on_progress=on_progress)
    wrong = list(_against_record(stored, record, path, scan))
    if not wrong and not stored.index_fault and not np.array_equal(stored.rows[path.name], scan.rows):
        first = int(np.argmax(stored.rows[path.name] != scan.rows))
        stated, actual = stored.rows[path.name][first].item(), scan.rows[first].item()
        detail = f"(offset, size, crc32) is {stated} in the index and {actual} in the shard"
        wrong.append(Fault("stale index", detail, None, first))
    labels = stored.labels.get(path.name)
    if not wrong and labels is not None and not np.array_equal(labels, scan.labels):
        first = int(np.argmax(labels != scan.labels))
        wrong.append(
            Fault(
                "stale labels",
                f"the class is {labels[first]} in {LABELS_NAME} and {scan.labels[first]} in the shard",
                None,
                first,
            )
        )
    wrong += scan.faults
    wrong += target_faults(stored.manifest, scan)
    if decode:
        wrong += _undecodable(stored, path, scan, on_progress)
    return scan, [
        Problem(kind=fault.kind, where=path.name, detail=fault.detail, sample=fault.sample, key=fault.key)
        for fault in wrong
    ]


def _against_record(stored: StoredSet, record: ShardRecord, path: File, scan: Scan) -> Iterator[Fault]:
    actual = scan.record
    if actual.samples != record.samples:
        yield Fault("wrong count", f"it holds {actual.samples} samples, but its manifest says {record.samples}")
    if actual.sha256 == record.sha256:
        return
    other = next((shard.name for shard in stored.manifest.shards if shard.sha256 == actual.sha256), None)
    if other:
        yield Fault("swapped shards", f"its content is that of {other} in the manifest")
        return
    if actual.bytes != record.bytes:
        kind = "truncated shard" if actual.bytes < record.bytes else "wrong size"
        yield Fault(kind, f"it has {actual.bytes} bytes, but its manifest says {record.bytes}")
    else:
        stated = f"{record.sha256[:12]}…"
        yield Fault("wrong digest", f"it has SHA-256 {actual.sha256[:12]}…, but its manifest says {stated}")
    if not stored.index_fault:
        whole = whole_rows(path, stored.rows[path.name])
        for number, key, detail in damaged_rows(path, whole):
            yield Fault("damaged sample", detail, key, number)
        if lost := record.samples - len(whole):
            yield Fault("lost samples", f"{lost} of its samples, from number {len(whole)} on, are after its end")


def target_faults(manifest: Manifest, scan: Scan) -> Iterator[Fault]:
    """Check that targets exist as the task requires and that labels are classes of the set."""
    task, classes, samples = manifest.task, len(manifest.classes), scan.record.samples
    masked = sum(count for name, count in scan.targets.items() if is_mask(name))
    labelled = sum(scan.targets.values()) - masked
    if task == "classification" and labelled != samples:
        yield Fault("missing target", f"{samples - labelled} of its {samples} samples have no label")
    if task == "unlabeled" and labelled:
        yield Fault("unexpected target", f"{labelled} of its samples have labels, but the set's task is {task}")
    if task == "segmentation" and masked != samples:
        yield Fault("missing target", f"{samples - masked} of its {samples} samples have no {MASK_FIELD}")
    if task in ("multilabel", "regression", "captions") and (missing := samples - sum(scan.targets.values())):
        yield Fault("missing target", f"{missing} of its {samples} samples have no target for {task}")
    if task == "classification" and classes:
        for number in np.flatnonzero(scan.labels >= classes)[:20].tolist():
            detail = f"label {scan.labels[number]} is not a class: the set has {classes} classes"
            yield Fault("bad label", detail, None, number)


def _undecodable(stored: StoredSet, path: File, scan: Scan, on_progress: Callable[[int], None]) -> Iterator[Fault]:
    from mps_shards import native
    from mps_shards.vision.decoding import decode_image
    from mps_shards.vision.label_maps import label_map_of

    for number, (offset, size, _) in enumerate(scan.rows.tolist()):
        key = None
        raise_if_stopped()
        try:
            sample = sample_from(path.read(offset, offset + size), shard=path.name)
            key = sample.key
            sample = stored.choice.plain(sample)
            content = sample.image()[1]
            image = decode_image(content)
            if native.is_tiled(content) and native.is_available() and (fault := native.tile_fault(content, image)):
                raise DecodeError(f"the image is a JPEG in tiles, but {fault}: pack it again")
            if stored.manifest.task == "segmentation" and MASK_FIELD in sample.fields:  # else the shard has a fault
                label_map_of(
                    sample,
                    size=image.shape[:2],
                    classes=len(stored.manifest.classes),
                    ignore_index=stored.manifest.ignore_index,
                )
        except (DecodeError, ShardError) as error:
            yield Fault("undecodable", str(error), key, number)
