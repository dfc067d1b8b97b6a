"""Scan of a tar in one pass: its samples, digest and index rows, and everything that is wrong with it."""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mps_shards.errors import DataError, DecodeError, ShardError, StorageError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.key_names import is_hidden, split_member
from mps_shards.shards.manifest import ShardRecord
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.sample_index import Rows, rows
from mps_shards.shards.tar import BLOCK, END, REGULAR, Entry, walk
from mps_shards.shardset.sealing import ShardContents
from mps_shards.storage.folder import File
from mps_shards.storage.ordered_map import Job, WorkerPool, ordered_map, raise_if_stopped, worker_pool

__all__ = ["Fault", "Hashes", "Scan", "hash_of", "scan_shard", "scan_shards"]

Hashes = npt.NDArray[np.uint64]
Labels = npt.NDArray[np.int64]

_CHUNK = 1 << 20  # small enough to stay in a core's cache from reading to the second digest
_MAX_FAULTS = 20  # reported faults of one kind per shard; a tar that is not a shard may have millions


class Fault(NamedTuple):
    """One fault of a tar: its kind in two or three words, the number of the sample, if any, and a description."""

    kind: str
    detail: str
    key: str | None = None
    sample: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Result of scanning a tar.

    Attributes:
        record: name, number of samples, bytes and SHA-256.
        rows: byte range and CRC-32 of each complete sample, in order. In a damaged tar, the last readable sample is
            left out, because it may lack fields.
        hashes: uint64 [samples], hash of each key.
        labels: int64 [samples], class indices; -1 for samples without a label.
        fields: number of samples that hold each field, by lower-case name.
        targets: number of samples with each target, by the names of `FieldChoice.target`.
        passed_over: number of entries that belong to no sample, by kind: folders, volume labels, hidden files.
        faults: faults that were found.
    """

    record: ShardRecord
    rows: Rows = field(repr=False)
    hashes: Hashes = field(repr=False)
    labels: Labels = field(repr=False)
    fields: dict[str, int]
    targets: dict[str, int]
    passed_over: dict[str, int]
    faults: tuple[Fault, ...]

    def contents(self, name: str | None = None) -> ShardContents:
        """Return the contents of the tar for index and manifest, under `name` if the tar is going to be renamed."""
        record = self.record if name is None else msgspec.structs.replace(self.record, name=name)
        return ShardContents(record, self.rows, self.labels)


def hash_of(key: str) -> int:
    """Return a 64-bit hash of a key that is equal on every machine."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def scan_shard(
    file: File,
    *,
    choice: FieldChoice | None = None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> Scan:
    """Read a tar once, from its first to its last byte, a few megabytes at a time.

    Args:
        choice: fields of image and target.
        on_progress: called with the number of bytes read since its last call.

    Raises:
        StorageError: the file cannot be read. Wrong content is reported as a fault instead.
    """
    size = file.size()
    with file.open_stream() as stream, worker_pool(1, name="mps-shards-digest") as pool:
        tape = _Tape(stream, file, on_progress, pool)
        samples = _Samples(tape, file.name, choice or FieldChoice())
        try:
            for entry in walk(tape.read, size, where=f"shard {file.name}"):
                samples.take(entry)
            samples.close()
            samples.faults += _faults_of_the_end(tape, size)
        except ShardError as error:
            samples.fault("damaged", str(error))
        while tape.advance():
            tape.position = tape.end
        digest = tape.digest()
    record = ShardRecord(name=file.name, samples=len(samples.rows), bytes=tape.end, sha256=digest)
    return Scan(
        record=record,
        rows=rows(samples.rows),
        hashes=np.array(samples.hashes, dtype=np.uint64),
        labels=np.array(samples.labels, dtype=np.int64),
        fields=samples.fields,
        targets=samples.targets,
        passed_over=samples.passed_over,
        faults=tuple(samples.faults),
    )


def scan_shards(
    files: Sequence[File],
    *,
    workers: int | None,
    choice: FieldChoice | None = None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> Iterator[Scan]:
    """Scan several tars at the same time and yield the scans in order; by default one tar per available core."""
    return ordered_map(
        lambda file: scan_shard(file, choice=choice, on_progress=on_progress),
        files,
        workers=workers,
        name="mps-shards-scan",
    )


class _Tape:
    """Sequential reader of a file that computes the digest on another thread."""

    def __init__(self, file: BinaryIO, path: File, on_progress: Callable[[int], None], pool: WorkerPool):
        self._file, self._path, self._on_progress = file, path, on_progress
        self._sha256 = hashlib.sha256()
        self._pool = pool
        self._digesting: Job[None] | None = None
        self._held = memoryview(b"")
        self.position = 0  # offset of the first byte that is still needed
        self.end = 0  # number of bytes that were read

    def advance(self) -> bool:
        """Read more bytes and keep those from `position` on; returns False at the end of the file."""
        raise_if_stopped()
        kept = self._held[len(self._held) - (self.end - self.position) :]
        fresh = self._file.read(_CHUNK)
        if self._digesting is not None:
            self._digesting.result()
        self._digesting = self._pool.submit(self._sha256.update, fresh)
        self._held = memoryview(bytes(kept) + fresh if kept else fresh)
        self.end += len(fresh)
        self._on_progress(len(fresh))
        return bool(fresh)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, which must not lie before `position`."""
        while stop > self.end:
            if not self.advance():
                raise StorageError(f"{self._path} became shorter while it was read: it ends at byte {self.end}")
        base = self.end - len(self._held)
        return bytes(self._held[start - base : stop - base])

    def pieces(self, stop: int) -> Iterator[memoryview]:
        """Iterate over the bytes from `position` to `stop`, and move the position there."""
        while self.position < stop:
            if self.position == self.end and not self.advance():
                raise ShardError(f"it is truncated: it needs {stop} bytes and ends at byte {self.end}")
            base = self.end - len(self._held)
            piece = self._held[self.position - base : stop - base]
            self.position += len(piece)
            yield piece

    def digest(self) -> str:
        """Return the SHA-256 (hex) of everything that was read."""
        if self._digesting is not None:
            self._digesting.result()
        return self._sha256.hexdigest()


class _Samples:
    """Groups consecutive entries by key."""

    def __init__(self, tape: _Tape, shard: str, choice: FieldChoice):
        self._tape, self._shard, self._choice = tape, shard, choice
        self._label_bytes = choice.label_bytes()
        self._key: str | None = None
        self._held: dict[str, Buffer] = {}  # contents of the target fields; other contents are not needed
        self._begin = self._crc32 = 0
        self._seen: set[int] = set()
        self._counts: dict[str, int] = {}
        self.rows: list[tuple[int, int, int]] = []
        self.hashes: list[int] = []
        self.labels: list[int] = []
        self.fields: dict[str, int] = {}
        self.targets: dict[str, int] = {}
        self.passed_over: dict[str, int] = {}
        self.faults: list[Fault] = []

    def take(self, entry: Entry) -> None:
        """Add the next entry, whose data have not been read yet."""
        unused = _unused_kind(entry)
        if unused:
            self.passed_over[unused] = self.passed_over.get(unused, 0) + 1
        elif entry.kind in REGULAR:
            try:
                key, name = split_member(entry.name)
            except DataError as error:
                self.fault("unusable name", str(error))
                key, name = entry.name, ""
            if key != self._key:
                self.close()
                self._key, self._begin = key, entry.begin
                self._held = {}
            if name in self._held:
                self.fault("field twice", f"sample {key!r} holds the field {name!r} twice", key)
            most = self._label_bytes.get(name, 0)
            self._held[name] = self._tape.read(entry.start, min(entry.stop, entry.start + most)) if most else b""
        else:
            self.fault("link or device", f"member {entry.name!r} is not a file; its sample would be read without it")
        for piece in self._tape.pieces(entry.stop + -(entry.stop - entry.start) % BLOCK):
            self._crc32 = zlib.crc32(piece, self._crc32)

    def close(self) -> None:
        """Complete the last sample."""
        if self._key is not None:
            self._finish(self._key)
        self._key, self._crc32 = None, 0

    def _finish(self, key: str) -> None:
        size = self._tape.position - self._begin
        if size >= 1 << 32:
            raise ShardError(f"sample {key!r} has {size} bytes, but an index allows at most {(1 << 32) - 1}")
        raw = RawSample(key=key, shard=self._shard, fields=self._held)
        try:
            self._choice.image_field(raw)
        except DecodeError as error:
            self.fault("no one image", str(error), key)
        hashed = hash_of(key)
        if hashed in self._seen:
            self.fault("duplicate key", f"the key {key!r} occurs twice, or its members are not adjacent", key)
        self._seen.add(hashed)
        for name in self._held:
            self.fields[name] = self.fields.get(name, 0) + 1
        self.rows.append((self._begin, size, self._crc32))
        self.hashes.append(hashed)
        self.labels.append(self._label_of(raw))

    def _label_of(self, raw: RawSample) -> int:
        try:
            target = self._choice.target_field(raw)
        except DecodeError as error:
            self.fault("no one target", str(error), raw.key)
            return -1
        if target is None:
            return -1
        self.targets[target] = self.targets.get(target, 0) + 1
        try:
            return self._choice.class_number(raw, target)
        except DecodeError as error:
            self.fault("bad label", str(error), raw.key)
            return -1

    def fault(self, kind: str, detail: str, key: str | None = None) -> None:
        """Record a fault of the current sample, up to a limit per kind."""
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        if count <= _MAX_FAULTS:
            self.faults.append(Fault(kind, detail, key, None if key is None else len(self.rows)))


def _unused_kind(entry: Entry) -> str | None:
    """Return the kind of an entry that belongs to no sample; None for all other entries."""
    if entry.kind == ord("5"):
        return "folders"
    if entry.kind == ord("V"):  # GNU tar's --label
        return "volume labels"
    return "hidden files" if entry.kind in REGULAR and is_hidden(entry.name) else None


def _faults_of_the_end(tape: _Tape, size: int) -> list[Fault]:
    """Check that two zero blocks end the tar and that only zeros follow."""
    end = tape.position
    if size - end < len(END):
        return [Fault("damaged", f"it ends at byte {size} without the two zero blocks that end a tar")]
    for piece in tape.pieces(size):
        if piece.tobytes().strip(b"\0"):
            return [Fault("bytes after the end", f"its content ends at byte {end}, but other bytes follow")]
    return []
