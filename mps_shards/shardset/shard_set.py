"""Random access to the samples of a shard set with manifest and index: one ranged read for each sample."""

import hashlib
import logging
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate

import numpy as np
from msgspec import UNSET

from mps_shards.errors import ConfigError, ManifestError, ShardError, StorageError
from mps_shards.sampling.order import Numbers
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import Manifest
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.sample_index import INDEX_NAME, Rows, check_rows
from mps_shards.shards.sample_labels import LABEL_TYPE, LABELS_NAME, Labels
from mps_shards.shards.tar import sample_from
from mps_shards.shardset.contents import keys_in, labels_in
from mps_shards.shardset.opening import check_size, load_index, load_labels, read_manifest
from mps_shards.storage.file_cache import Cache, CachedFolder
from mps_shards.storage.folder import File, Folder, Stop, Traffic
from mps_shards.storage.location import Location

__all__ = ["ShardSet"]

_log = logging.getLogger("mps_shards")


class ShardSet:
    """Random access to the samples of one set.

    Opening a set reads the manifest and the sizes of the tars and of the index. Each process maps the index itself, so
    a pickled set is small. All index rows of a shard are checked when a sample of the shard is first read.

    Reading is safe from any thread: shared values are either constant, or (the mapped index, its checked parts) are set
    by one assignment of a value that is equal in every thread.

    In a store, the index is held in memory, and the size of a tar is checked when its first bytes are read.

    Args:
        location: a folder with a manifest; if the location has names, only these tars of the folder, in that order.
        verify: compare the index with the manifest's SHA-256, and every sample that is read with the index's CRC-32.
        cache: cache for whole tars of a store, or of a slow local folder.
        choice: fields to take for image and target; they override the fields that the manifest records.
        manifest: manifest of the set, if it was parsed already.

    Attributes:
        remote: whether reading waits for a network, so that ranges should be fetched ahead.
        task, classes: task and classes of the manifest, unless another target was chosen.
        counts: number of samples of each shard.
        fingerprint: fingerprint of the manifest, or of the chosen shards.

    Raises:
        ManifestError: the manifest is missing or malformed or does not list a chosen tar, or the index does not fit it.
        ShardError: a tar does not have the size that the manifest states.
        StorageError: a tar is missing.
    """

    def __init__(
        self,
        location: Location,
        *,
        verify: bool = False,
        cache: Cache | None = None,
        choice: FieldChoice | None = None,
        manifest: Manifest | None = None,
    ):
        self.folder = location.folder
        self._index_folder = location.index
        self.manifest = manifest or read_manifest(location.index or self.folder)
        self._home: Folder = self.folder if cache is None else CachedFolder(cache, self.folder, self._digests())
        self.remote = self._home.waits
        self._verify = verify or not self._home.tells_identity
        self._choose(choice)
        place = {shard.name: number for number, shard in enumerate(self.manifest.shards)}
        missing = [name for name in location.names or () if name not in place]
        if missing:
            raise ManifestError(f"{self.folder / missing[0]} is not listed in the manifest beside it")
        chosen = [place[name] for name in location.names] if location.names else range(len(place))
        if len(set(chosen)) != len(chosen):
            raise ConfigError(f"a shard of {self.folder} was named twice")
        self.shards = [self.manifest.shards[number] for number in chosen]
        self.counts = [shard.samples for shard in self.shards]
        self.fingerprint = self.manifest.fingerprint
        if location.names:
            listed = f"{self.fingerprint}\n{chosen}"
            self.fingerprint = hashlib.sha256(listed.encode()).hexdigest()
        first_row = [0, *accumulate(shard.samples for shard in self.manifest.shards)]
        self._first_row = [first_row[number] for number in chosen]
        self._starts = [0, *accumulate(self.counts)]
        self._rows: list[Rows | None] = [None] * len(self.shards)
        self._index: Rows | None = None
        self._labels: Labels | None = None
        self._unchecked = set(range(len(self.shards)))  # shards whose size has not been compared with the manifest
        if self._home.path is not None:
            for shard in self.shards:
                check_size(self._home / shard.name, shard)
            self._unchecked.clear()
        self._index = self._map_index()  # first, because later allocations trust the manifest's numbers

    def _choose(self, choice: FieldChoice | None) -> None:
        recorded = FieldChoice.recorded(self.manifest.packed.options)
        self.task, self.classes = self.manifest.task, self.manifest.classes
        self._target_changed = bool(
            choice is not None and choice.target and (recorded is None or recorded.target != choice.target)
        )
        if choice is not None and self._target_changed:
            self.task = choice.task or self.task
            self.classes = self.classes if self.task == self.manifest.task else ()
        if recorded is not None:
            recorded = recorded.of_kind(self.manifest.task, self.manifest.column_names)
        chosen = choice.over(recorded) if choice is not None else recorded
        self._choice = None if chosen is None else chosen.naming(self.classes)

    def _digests(self) -> dict[str, str]:
        digests = {shard.name: shard.sha256 for shard in self.manifest.shards}
        digests[INDEX_NAME] = self.manifest.index_sha256
        if self.manifest.labels_sha256 is not UNSET:
            digests[LABELS_NAME] = self.manifest.labels_sha256
        return digests

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, number: int) -> RawSample:
        """Return the sample of this number, counted over the shards in order.

        Raises:
            ManifestError: the index rows of the sample's shard are invalid.
            ShardError: the bytes are not a complete sample, or (if `verify` is set) differ from the packed bytes.
            DecodeError: the sample lacks a chosen field.
            StorageError: the sample cannot be read.
        """
        at = bisect_right(self._starts, number) - 1
        row = self._rows_of(at)[number - self._starts[at]].item()
        offset, size, _ = row
        return self._sample(self.shards[at].name, row, self.read_span(at, offset, offset + size))

    @property
    def is_plain(self) -> bool:
        """Whether samples are their bytes as they are in the shards: neither verified nor with chosen fields."""
        return not self._verify and self._choice is None

    def opened(self, at: Sequence[int]) -> AbstractContextManager[list[int] | None]:
        """Keep some shards open in the block, see `Folder.opened`."""
        return self._home.opened([self.shards[number].name for number in at])

    def parse(self, number: int, content: Buffer) -> RawSample:
        """Return the sample of this number from its bytes, which were read already. Raises ShardError as `read`."""
        at = bisect_right(self._starts, number) - 1
        return self._sample(self.shards[at].name, self._rows_of(at)[number - self._starts[at]].item(), content)

    def _sample(self, shard: str, row: tuple[int, int, int], content: Buffer) -> RawSample:
        if self._verify and zlib.crc32(content) != row[2]:
            offset, size, crc32 = row
            raise ShardError(
                f"shard {shard}: bytes {offset} to {offset + size} have CRC-32 {zlib.crc32(content):08x}, "
                f"but the index says {crc32:08x}; the shard was damaged or replaced"
            )
        raw = sample_from(content, shard=shard)
        return raw if self._choice is None else self._choice.plain(raw)

    def spans(self, numbers: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return for each sample the index of its shard in `shards`, its number in the shard, first byte and end byte.

        Raises:
            ManifestError: the index rows of a shard are invalid.
        """
        at = np.searchsorted(self._starts, numbers, side="right") - 1
        inside = numbers - np.asarray(self._starts)[at]
        for shard in np.unique(at).tolist():
            self._rows_of(shard)
        assert self._index is not None
        rows = self._index[np.asarray(self._first_row)[at] + inside]
        start, size = rows["offset"].astype(np.int64), rows["size"].astype(np.int64)
        return at, inside, start, start + size

    def read_span(self, at: int, start: int, stop: int, stopped: Stop | None = None) -> Buffer:
        """Return bytes of a shard, by one request if no attempt fails.

        Raises:
            ShardError: the shard does not have the size that the manifest states.
            StorageError: the bytes cannot be read, or the shard was replaced.
        """
        shard = self.shards[at]
        try:
            content = self._home.read(shard.name, start, stop, stopped=stopped)
        except StorageError as error:
            self._check_size(at, error)  # a replaced shard is the better explanation of the error
            raise
        if at in self._unchecked:
            self._check_size(at, None)
        return content

    def _check_size(self, at: int, error: StorageError | None) -> None:
        shard = self.shards[at]
        seen = self._home.seen(shard.name)
        if seen is None:
            return
        if seen.size != shard.bytes and at not in self._unchecked:
            raise ShardError(
                f"shard {self._home / shard.name} now has {seen.size} bytes, but its manifest says {shard.bytes}; "
                "the file changed while it was in use"
            ) from error
        check_size(self._home / shard.name, shard, seen.size)
        self._unchecked.discard(at)

    def traffic(self) -> Traffic:
        """Return the counts of this process's requests to the store so far."""
        return self._home.traffic

    def read_runs(self, numbers: Numbers, *, max_bytes: int) -> Iterator[tuple[int, RawSample]]:
        """Read samples by ascending number; one request reads each run of adjacent samples of a shard.

        Args:
            max_bytes: limit for the bytes of one request, unless a single sample is larger.
        """
        shards, inside, starts, stops = (each.tolist() for each in self.spans(numbers))
        first = 0
        for last in range(1, len(shards) + 1):
            joined = (
                last < len(shards)
                and shards[last] == shards[first]
                and inside[last] == inside[last - 1] + 1
                and stops[last] - starts[first] <= max_bytes
            )
            if joined:
                continue
            content = self.read_span(shards[first], starts[first], stops[last - 1])
            for row in range(first, last):
                number = int(numbers[row])
                yield number, self.parse(number, content[starts[row] - starts[first] : stops[row] - starts[first]])
            first = last

    def shard_of(self, number: int) -> str:
        """Return the name of the tar that holds the sample of this number."""
        return self.shards[bisect_right(self._starts, number) - 1].name

    def key(self, number: int) -> str:
        """Return the key of the sample of this number, by a small read of its first header."""
        at = bisect_right(self._starts, number) - 1
        row = number - self._starts[at]
        return next(keys_in(self._file(self.shards[at].name), self._rows_of(at)[row : row + 1]))

    def keys(self) -> Iterator[str]:
        """Yield the keys of all samples, in the order of their numbers, by a few small reads each."""
        for at, shard in enumerate(self.shards):
            yield from keys_in(self._file(shard.name), self._rows_of(at))

    def labels(self) -> Labels:
        """Return the class id of each sample, in the order of their numbers: int32 [samples], -1 for none.

        Reads ``labels.npy``. If a set has no such file, the labels are read once from the shards, which takes some 20 s
        per million samples on a local disk. For a set in a store, all shards must then be read.

        Raises:
            ConfigError: the set is not for classification.
            DataError: labels cannot be read from the shards, or ``labels.npy`` does not fit the manifest.
            StorageError: files cannot be read.
        """
        if self.task != "classification":
            raise ConfigError(f"{self.folder} is for {self.task}; only sets for classification have a class per sample")
        if self._labels is None:
            stored = None if self._target_changed else load_labels(self._file(LABELS_NAME), self.manifest)
            self._labels = self._read_labels() if stored is None else self._of_chosen_shards(stored)
        return self._labels

    def _of_chosen_shards(self, labels: Labels) -> Labels:
        parts = [labels[first : first + count] for first, count in zip(self._first_row, self.counts, strict=True)]
        return np.concatenate([np.empty(0, LABEL_TYPE), *parts])

    def _read_labels(self) -> Labels:
        _log.warning(
            "%s has no %s for these labels: reading %d labels from its shards; 'mps-shards index' can store them",
            str(self.folder),
            LABELS_NAME,
            len(self),
        )
        choice = self._choice or FieldChoice()
        files = [self._file(shard.name) for shard in self.shards]
        try:
            parts = [labels_in(file, self._rows_of(at), choice) for at, file in enumerate(files)]
        finally:
            self._home.close()
        return np.concatenate([np.empty(0, LABEL_TYPE), *parts])

    def close(self) -> None:
        """Close open files; the set can be used again."""
        self._home.close()
        self._index, self._labels, self._rows = None, None, [None] * len(self.shards)

    def _map_index(self) -> Rows:
        return load_index(self._file(INDEX_NAME), self.manifest, check_digest=self._verify)

    def _file(self, name: str) -> File:
        """Return a file of the set; the index and the labels may be in another folder than the tars."""
        folder = self._index_folder if name in (INDEX_NAME, LABELS_NAME) else None
        return (folder or self._home) / name

    def _rows_of(self, at: int) -> Rows:
        rows = self._rows[at]
        if rows is None:
            rows = self._rows[at] = self._checked_rows(at)
        return rows

    def _checked_rows(self, at: int) -> Rows:
        """Return the checked index rows of one shard, as a view of the mapped file."""
        if self._index is None:
            self._index = self._map_index()
        shard, first = self.shards[at], self._first_row[at]
        rows = self._index[first : first + shard.samples].view(np.ndarray)
        check_rows(shard.name, rows, shard_bytes=shard.bytes)
        return rows

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_index": None, "_labels": None, "_rows": [None] * len(self.shards)}
