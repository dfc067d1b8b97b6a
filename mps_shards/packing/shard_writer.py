"""Make one shard: original bytes into a deterministic tar, with its digest and its index rows on the way."""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mps_shards.errors import DataError
from mps_shards.packing.destinations.destination import Completion, Workplace
from mps_shards.packing.pack_options import OnBadSample
from mps_shards.packing.pack_report import Skipped, printable
from mps_shards.packing.plan import Keys, ShardPlan, key_of
from mps_shards.packing.sample_fields import FieldOptions, fields_of
from mps_shards.packing.sources.listing import Entry
from mps_shards.shards.key_names import member_name
from mps_shards.shards.sample_index import rows
from mps_shards.shards.sample_labels import LABEL_TYPE
from mps_shards.shards.tar import END, header, padding
from mps_shards.storage.local_disk import begin_writing

__all__ = ["Progress", "ShardTask", "make_shard"]

Progress = Callable[[int, int], None]  # samples and bytes written since the last call; called from any worker thread

_AHEAD = 16  # samples of a shard that are made before they are written: some 2 MB of common photographs


class _Sample(NamedTuple):
    """The tar blocks of one sample; whether viewers would turn its image, as the loader does not; and its class."""

    content: bytes
    rotated: bool
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """One shard to make. It may be done twice, on any machine, at any time: the result is the same.

    Attributes:
        split: of its set, "" without splits.
    """

    source: Path
    split: str
    place: Workplace
    plan: ShardPlan
    on_bad_sample: OnBadSample


def make_shard(task: ShardTask, on_progress: Progress, pool: ThreadPoolExecutor | None = None) -> bool:
    """Write a shard and then its completion record; whether that had been done before, and the shard is whole.

    Args:
        pool: makes samples side by side where they take decoding, so that few shards keep many cores busy.

    Raises:
        DataError: an image cannot become a sample.
        StorageError: a file cannot be read, or the shard not written.
    """
    done = task.place.completion(task.plan.name)
    if done and _holds(task, done):
        on_progress(done.samples, done.size)
        return True
    task.place.complete(task.split, task.plan.name, _write_shard(task, on_progress, pool))
    return False


def _holds(task: ShardTask, done: Completion) -> bool:
    """Whether what was recorded as finished is still there, and is what would be made now."""
    if done.skipped and task.on_bad_sample == "fail":
        return False
    return not done.samples or task.place.holds(task.split, task.plan.name, done)


def _write_shard(task: ShardTask, on_progress: Progress, pool: ThreadPoolExecutor | None) -> Completion:
    """The tar appears when it is whole; where every sample was skipped there is none."""
    sizes: list[int] = []
    labels: list[int] = []
    skipped: list[Skipped] = []
    rotated = 0
    with task.place.writing(task.split, task.plan.name) as file, _Digested(file) as tar:
        for made in _made(task, pool):
            if isinstance(made, Skipped):
                skipped.append(made)
                on_progress(1, 0)
                continue
            tar.write(made.content)
            sizes.append(len(made.content))
            labels.append(made.label)
            rotated += made.rotated
            on_progress(1, len(made.content))
        tar.write(END)
        sha256, checksums = tar.digests()
    if not sizes:
        task.place.remove(task.split, task.plan.name)
    offsets = [0, *accumulate(sizes)]
    return Completion(
        samples=len(sizes),
        size=offsets[-1] + len(END) if sizes else 0,
        sha256=sha256,
        rows=rows(list(zip(offsets, sizes, checksums, strict=False))).tobytes(),  # END is no sample
        labels=np.array(labels, LABEL_TYPE).tobytes(),
        rotated=rotated,
        skipped=tuple(skipped),
    )


def _made(task: ShardTask, pool: ThreadPoolExecutor | None) -> Iterator[_Sample | Skipped]:
    """The samples of a shard, in order; with a pool, a few ahead of the last one that was taken."""
    make = partial(_sample, task)
    if pool is None or not task.plan.fields.looks:
        yield from map(make, task.plan.entries)
        return
    waiting: deque[Future[_Sample | Skipped]] = deque()
    try:
        for entry in task.plan.entries:
            waiting.append(pool.submit(make, entry))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _sample(task: ShardTask, entry: Entry) -> _Sample | Skipped:
    try:
        return _sample_of(task.source, entry, task.plan.keys, task.plan.fields)
    except DataError as error:
        if task.on_bad_sample == "fail":
            raise
        reason = str(error).replace(f"{task.source}/", "")  # the same wherever the source lies
        return Skipped(path=printable(entry.path), reason=printable(reason), label=entry.label)


class _Digested:
    """Writes to a file, 4 MB at a time, and digests them meanwhile on a thread of its own; holds 8 MB at most."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha256 = hashlib.sha256()
        self._checksums: list[int] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mps-shards-digest")
        self._digesting: Future[None] | None = None
        self._held: list[bytes] = []
        self._size = self._written = 0

    def __enter__(self) -> "_Digested":
        return self

    def write(self, content: bytes) -> None:
        self._held.append(content)
        self._size += len(content)
        if self._size >= 4 << 20:
            self._flush()

    def digests(self) -> tuple[str, list[int]]:
        """SHA-256 of all that was written, and the CRC-32 of each `write`."""
        self._flush()
        self._wait()
        return self._sha256.hexdigest(), self._checksums

    def _flush(self) -> None:
        self._wait()
        self._digesting = self._thread.submit(self._digest, self._held)
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

    def __exit__(self, *failure: object) -> None:
        self._thread.shutdown()


def _sample_of(source: Path, entry: Entry, keys: Keys, options: FieldOptions) -> _Sample:
    """The tar blocks of one sample, its fields in alphabetical order.

    Raises:
        DataError: the entry cannot become a sample.
        StorageError: a file cannot be read.
    """
    key = key_of(entry.path, keys)
    pieces = []
    fields = fields_of(source, entry, options)
    for name, content in sorted(fields.contents.items(), key=lambda field: field[0].lower()):
        pieces += [header(member_name(key, name), len(content)), content, padding(len(content))]
    sample = b"".join(pieces)
    if len(sample) >= 1 << 32:
        raise DataError(f"{source / entry.path} makes a sample of over 4 GiB; a sample must stay below")
    return _Sample(sample, fields.rotated, entry.label)
