"""Writing of one shard as a deterministic tar, whose digest and index rows are computed while it is written."""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import BinaryIO, NamedTuple

import numpy as np

from mps_shards.errors import DataError
from mps_shards.packing.destinations.destination import Completion, Destination
from mps_shards.packing.pack_report import Skipped, encodable
from mps_shards.packing.plan import ShardPlan, key_of
from mps_shards.packing.sample_fields import fields_of
from mps_shards.packing.sources.listing import Entry
from mps_shards.packing.sources.source import Source, Stamp
from mps_shards.shards.key_names import member_name
from mps_shards.shards.sample_index import rows
from mps_shards.shards.sample_labels import LABEL_TYPE
from mps_shards.shards.tar import END, header, padding
from mps_shards.storage.local_disk import begin_writing
from mps_shards.storage.ordered_map import Job, WorkerPool, raise_if_stopped, worker_pool

__all__ = ["Progress", "ShardTask", "content_of", "make_shard", "sample_of"]

Progress = Callable[[int, int], None]  # samples and bytes written since the last call; called from any worker thread

_AHEAD = 16  # samples of a shard that are encoded ahead of writing: about 2 MB of common photographs


class _Sample(NamedTuple):
    """The tar blocks and the class of one sample; `rotated` and `tiled` are those of `Fields`."""

    content: bytes
    rotated: bool
    label: int
    tiled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to make. The task gives the same result on every machine, and when it is repeated.

    Attributes:
        split: name of the split that the shard belongs to; "" without splits.
    """

    source: Source
    split: str
    destination: Destination
    plan: ShardPlan
    skip_bad: bool


def make_shard(task: ShardTask, on_progress: Progress, pool: WorkerPool | None = None) -> bool:
    """Write a shard and then its completion record; return whether the shard had been finished before.

    Args:
        pool: threads that decode several samples of the shard at the same time.

    Raises:
        DataError: an image cannot become a sample.
        StorageError: a file cannot be read, or the shard cannot be written.
    """
    done = task.destination.completion(task.plan.name)
    holds = done is not None and _holds(task, done)
    if done and holds and done.is_sure and done.stamps == _stamps(task):
        on_progress(done.samples, done.size)
        return True
    made = _write_shard(
        task, on_progress, pool
    )  # also needed where only the bytes can show whether the source has changed
    task.destination.complete(task.split, task.plan.name, made)
    return done is not None and holds and done.sha256 == made.sha256


def _holds(task: ShardTask, done: Completion) -> bool:
    """Whether the shard that was recorded as finished still exists and skips no sample that must not be skipped."""
    if done.skipped and not task.skip_bad:
        return False
    return not done.samples or task.destination.holds(task.split, task.plan.name, done)


def _stamps(task: ShardTask) -> bytes:
    return b"".join(task.source.stamp(entry).digest for entry in task.plan.entries)


def _write_shard(task: ShardTask, on_progress: Progress, pool: WorkerPool | None) -> Completion:
    """Write the tar, which appears when it is complete. If every sample was skipped, no tar is written."""
    sizes: list[int] = []
    labels: list[int] = []
    skipped: list[Skipped] = []
    stamps: list[Stamp] = []
    rotated = tiled = 0
    with (
        task.destination.writing(task.split, task.plan.name) as file,
        worker_pool(1, name="mps-shards-digest") as pool_of_one,
    ):
        tar = _HashingWriter(file, pool_of_one)
        for stamp, made in _samples(task, pool):
            raise_if_stopped()
            stamps.append(stamp)
            if isinstance(made, Skipped):
                skipped.append(made)
                on_progress(1, 0)
                continue
            tar.write(made.content)
            sizes.append(len(made.content))
            labels.append(made.label)
            rotated += made.rotated
            tiled += made.tiled
            on_progress(1, len(made.content))
        tar.write(END)
        sha256, checksums = tar.digests()
    if not sizes:
        task.destination.remove(task.split, task.plan.name)
    offsets = [0, *accumulate(sizes)]
    return Completion(
        samples=len(sizes),
        size=offsets[-1] + len(END) if sizes else 0,
        sha256=sha256,
        rows=rows(list(zip(offsets, sizes, checksums, strict=False))).tobytes(),  # the last checksum is that of END
        labels=np.array(labels, LABEL_TYPE).tobytes(),
        rotated=rotated,
        tiled=tiled,
        skipped=tuple(skipped),
        stamps=b"".join(stamp.digest for stamp in stamps),
        is_sure=all(stamp.is_sure for stamp in stamps),
    )


def _samples(task: ShardTask, pool: WorkerPool | None) -> Iterator[tuple[Stamp, _Sample | Skipped]]:
    """Yield the samples of a shard in order, each with the stamp of its entry. A pool encodes a few samples ahead."""
    make = partial(_stamped_sample, task)
    if pool is None or not task.plan.rules.images.decodes:
        yield from map(make, task.plan.entries)
        return
    yield from pool.ordered_map(make, task.plan.entries, ahead=_AHEAD)


def _stamped_sample(task: ShardTask, entry: Entry) -> tuple[Stamp, _Sample | Skipped]:
    stamp = task.source.stamp(entry)  # before reading, so that a change during reading is noticed
    return stamp, sample_of(task, entry, skips=task.skip_bad)


def content_of(task: ShardTask, entry: Entry) -> bytes | None:
    """Return the tar blocks of a sample that was packed before; None if the entry cannot become a sample.

    JPEGs that no option changes are not decoded, unless damaged images were left out.
    """
    if entry.path.lower().endswith((".jpg", ".jpeg")) and not (task.skip_bad or entry.mask or entry.shapes):
        images = dataclasses.replace(task.plan.rules.images, check=False)
        plan = dataclasses.replace(task.plan, rules=dataclasses.replace(task.plan.rules, images=images))
        task = dataclasses.replace(task, plan=plan)
    made = sample_of(task, entry, skips=True)
    return None if isinstance(made, Skipped) else made.content


def sample_of(task: ShardTask, entry: Entry, *, skips: bool) -> _Sample | Skipped:
    """Return one sample of a shard, or the reason why it is skipped.

    Raises:
        DataError: an image cannot become a sample, and `skips` is false.
        StorageError: a file cannot be read.
    """
    try:
        return _sample_of(task, entry)
    except DataError as error:
        if not skips:
            raise
        reason = str(error).replace(f"{task.source.name}/", "")  # independent of the source's location
        return Skipped(path=encodable(entry.path), reason=encodable(reason), label=entry.label)


class _HashingWriter:
    """Writes to a file in steps of 4 MB and hashes each step on another thread; holds at most 8 MB."""

    def __init__(self, file: BinaryIO, pool: WorkerPool):
        self._file, self._pool = file, pool
        self._sha256 = hashlib.sha256()
        self._checksums: list[int] = []
        self._digesting: Job[None] | None = None
        self._held: list[bytes] = []
        self._size = self._written = 0

    def write(self, content: bytes) -> None:
        self._held.append(content)
        self._size += len(content)
        if self._size >= 4 << 20:
            self._flush()

    def digests(self) -> tuple[str, list[int]]:
        """Return the SHA-256 of everything that was written, and the CRC-32 of each `write`."""
        self._flush()
        self._wait()
        return self._sha256.hexdigest(), self._checksums

    def _flush(self) -> None:
        self._wait()
        self._digesting = self._pool.submit(self._digest, self._held)
        self._file.writelines(self._held)
        begin_writing(self._file, self._written, self._size)
        self._written += self._size
        self._held, self._size = [], 0

    def _digest(self, contents: list[bytes]) -> None:
        for content in contents:
            self._sha256.update(content)
            self._checksums.append(zlib.crc32(content))

    def _wait(self) -> None:
        if self._digesting is not None:
            self._digesting.result()


def _sample_of(task: ShardTask, entry: Entry) -> _Sample:
    """Return the tar blocks of one sample, with its fields in alphabetical order."""
    pieces = []
    fields = fields_of(task.source, entry, task.plan.rules)
    key = fields.key or key_of(entry.path, task.plan.keys)
    for name, content in sorted(fields.contents.items(), key=lambda field: field[0].lower()):
        pieces += [header(member_name(key, name), len(content)), content, padding(len(content))]
    sample = b"".join(pieces)
    if len(sample) >= 1 << 32:
        raise DataError(f"{task.source.name}/{entry.path or key} becomes a sample of over 4 GiB; use a smaller image")
    return _Sample(sample, fields.rotated, entry.label, fields.tiled)
