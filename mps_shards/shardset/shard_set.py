"""A shard set with manifest and index: any sample by its number, one ranged read each."""

import hashlib
import zlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np

from mps_shards.errors import ConfigError, ManifestError, ShardError, StorageError
from mps_shards.sampling.order import Numbers
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, ShardRecord, parse_manifest
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.sample_index import INDEX_NAME, ROW, Rows, check_rows
from mps_shards.shards.tar import sample_from
from mps_shards.storage.backend import FileMissing
from mps_shards.storage.file_cache import Cache, CachedReader
from mps_shards.storage.local_disk import RangeReader, array_in, file_size, map_array, open_stream, read_file
from mps_shards.storage.location import Location
from mps_shards.storage.remote_folder import RemoteFolder, Stop
from mps_shards.storage.urls import Prefix

__all__ = ["ShardSet", "read_manifest"]

_MAX_MANIFEST = 1 << 28  # a million shards need 150 MB
_MAX_INDEX = 1 << 30  # of one in a store, which is held in memory: 67 million samples


def read_manifest(folder: Path | Prefix | RemoteFolder) -> Manifest:
    """The manifest of a shard set.

    Raises:
        ManifestError: there is none, or it is malformed; names the sets below the folder, if any.
    """
    if not isinstance(folder, Path):
        return _remote_manifest(folder if isinstance(folder, RemoteFolder) else RemoteFolder(folder))
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise StorageError(f"{folder}: {'not a directory' if folder.exists() else 'no such directory'}")
    if not path.exists():
        below = sorted(str(found.parent) for found in folder.glob(f"*/{MANIFEST_NAME}"))
        hint = f"name one of the sets in it: {', '.join(below)}" if below else "it is no finished shard set"
        raise ManifestError(f"{folder} has no {MANIFEST_NAME}; {hint}")
    return parse_manifest(read_file(path, max_bytes=_MAX_MANIFEST), where=str(path))


def _remote_manifest(folder: RemoteFolder) -> Manifest:
    try:
        content = folder.read_file(MANIFEST_NAME, max_bytes=_MAX_MANIFEST)
    except FileMissing:
        raise ManifestError(f"{folder.where} has no {MANIFEST_NAME}; it is no finished shard set") from None
    return parse_manifest(content, where=str(folder.where / MANIFEST_NAME))


class ShardSet:
    """Random access to the samples of one set.

    Opening reads the manifest and the size of each tar and of the index. Each process maps the index by itself, so a
    set pickles small. The rows of a shard are checked as a whole at its first read.

    Reading is safe from any thread: what threads share is either constant, or (the mapped index, its checked parts) put
    in place by one assignment of a value that every thread would compute alike.

    In a store, the index is held in memory, and the size of a tar is checked with the first bytes that are read of it.

    Args:
        location: a folder with a manifest; with names, only those tars of it, in that order.
        verify: compare the index with the manifest's SHA-256, and every sample that is read with the index's CRC-32.
        cache: where whole tars are kept; also for a folder of this machine that is slow.
        choice: of the fields to take for image and target, above what the manifest records.

    Attributes:
        store: the folder as a store; None for one of this machine that is read directly.
        remote: it is read in ranges, which can be fetched ahead.
        task, classes: the manifest's, unless another target was chosen.
        counts: samples of each shard.
        fingerprint: the manifest's, or one of the chosen shards.

    Raises:
        ManifestError: no manifest, malformed, it does not list a chosen tar, or the index is not the one it describes.
        ShardError: a tar has not the size that the manifest states.
        StorageError: a tar is missing.
    """

    def __init__(
        self,
        location: Location,
        *,
        verify: bool = False,
        cache: Cache | None = None,
        choice: FieldChoice | None = None,
    ):
        self.folder = location.folder
        here = cache is None and isinstance(location.folder, Path)
        self.store = None if here else RemoteFolder(location.folder)
        self.remote = self.store is not None and cache is None
        self._verify = verify or (self.store is not None and not self.store.tells_identity)
        self._index_folder = location.index
        self.manifest = read_manifest(location.index or self.store or location.folder)
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
        self._paths = [str(self.folder / shard.name) if here else shard.name for shard in self.shards]
        self._reader = self._opened(cache)
        self._rows: list[Rows | None] = [None] * len(self.shards)
        self._index: Rows | None = None
        if isinstance(self.folder, Path) and here:
            for shard in self.shards:
                self._check_size(shard, file_size(self.folder / shard.name))
        self._index = self._map_index()  # before anything is allocated from the manifest's numbers

    def _choose(self, choice: FieldChoice | None) -> None:
        recorded = FieldChoice.recorded(self.manifest.packed.options)
        self.task, self.classes = self.manifest.task, self.manifest.classes
        if choice is not None and choice.target and (recorded is None or recorded.target != choice.target):
            self.task = choice.task or self.task
            self.classes = self.classes if self.task == self.manifest.task else ()
        chosen = choice.over(recorded) if choice is not None else recorded
        self._choice = None if chosen is None else chosen.naming(self.classes)

    def _opened(self, cache: Cache | None) -> "RangeReader | CachedReader | _RemoteReader":
        if self.store is None:
            return RangeReader()
        if cache is None:
            return _RemoteReader(self)
        digests = {shard.name: shard.sha256 for shard in self.shards}
        return CachedReader(cache, self.store, {**digests, INDEX_NAME: self.manifest.index_sha256})

    def _check_size(self, shard: ShardRecord, size: int) -> None:
        if size != shard.bytes:
            raise ShardError(f"shard {self.folder / shard.name} has {size} bytes, its manifest says {shard.bytes}")

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, number: int) -> RawSample:
        """The sample of this number, counted over the shards in order.

        Raises:
            ManifestError: the index rows of its shard cannot be right.
            ShardError: its bytes are no whole sample, or (where they are verified) not those that were packed.
            DecodeError: it has not the fields that were chosen.
            StorageError: they cannot be read.
        """
        at = bisect_right(self._starts, number) - 1
        shard = self.shards[at]
        rows = self._rows[at]
        if rows is None:
            rows = self._rows[at] = self._checked_rows(at)
        row = rows[number - self._starts[at]].item()
        offset, size, _ = row
        try:
            content = self._reader.read(self._paths[at], offset, size)
        except StorageError as error:
            found = file_size(Path(self._paths[at])) if self.store is None else shard.bytes
            if found == shard.bytes:
                raise
            raise ShardError(
                f"shard {shard.name} has {found} bytes now, its manifest says {shard.bytes}; it changed while in use"
            ) from error
        return self._sample(shard.name, row, content)

    def parse(self, number: int, content: Buffer) -> RawSample:
        """The sample of this number, whose bytes were read already. Raises ShardError as `read`."""
        at = bisect_right(self._starts, number) - 1
        rows = self._rows[at]
        if rows is None:
            rows = self._rows[at] = self._checked_rows(at)
        return self._sample(self.shards[at].name, rows[number - self._starts[at]].item(), content)

    def _sample(self, shard: str, row: tuple[int, int, int], content: Buffer) -> RawSample:
        if self._verify and zlib.crc32(content) != row[2]:
            offset, size, crc32 = row
            raise ShardError(
                f"shard {shard}: bytes {offset} to {offset + size} have CRC-32 {zlib.crc32(content):08x}, "
                f"the index says {crc32:08x}; the shard was damaged or replaced"
            )
        raw = sample_from(content, shard=shard)
        return raw if self._choice is None else self._choice.plain(raw)

    def spans(self, numbers: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Where samples lie: places of their shards in `shards`, numbers inside these, first byte, byte behind.

        Raises:
            ManifestError: the index rows of a shard cannot be right.
        """
        at = np.searchsorted(self._starts, numbers, side="right") - 1
        inside = numbers - np.asarray(self._starts)[at]
        for shard in np.unique(at).tolist():
            if self._rows[shard] is None:
                self._rows[shard] = self._checked_rows(shard)
        assert self._index is not None
        rows = self._index[np.asarray(self._first_row)[at] + inside]
        start, size = rows["offset"].astype(np.int64), rows["size"].astype(np.int64)
        return at, inside, start, start + size

    def read_span(self, at: int, start: int, stop: int, stopped: Stop | None = None) -> memoryview:
        """Bytes of a remote shard, by one request if all goes well.

        Raises:
            ShardError: the shard has not the size that the manifest states.
            StorageError: they cannot be read, or the shard was replaced.
        """
        assert self.store is not None
        shard = self.shards[at]
        try:
            return self.store.read(shard.name, start, stop, stopped=stopped)
        finally:  # also where it failed: that it is another file is the better reason
            seen = self.store.seen(shard.name)
            self._check_size(shard, shard.bytes if seen is None else seen.size)

    def shard_of(self, number: int) -> str:
        """Name of the tar that holds the sample of this number."""
        return self.shards[bisect_right(self._starts, number) - 1].name

    def close(self) -> None:
        """Close open files; the set can be used again."""
        self._reader.close()
        self._index, self._rows = None, [None] * len(self.shards)

    def _map_index(self) -> Rows:
        path = (self._index_folder or self.folder) / INDEX_NAME
        if self._index_folder is None and isinstance(self._reader, CachedReader):
            path = self._reader.path(INDEX_NAME)
        try:
            rows = map_array(path) if isinstance(path, Path) else self._remote_index()
        except ValueError as error:
            raise ManifestError(f"{path} is no index: {error}") from error
        if rows.dtype != ROW or rows.shape != (self.manifest.samples,):
            raise ManifestError(
                f"{path} has {rows.shape} rows of {rows.dtype}, the manifest says {self.manifest.samples} of {ROW}"
            )
        if self._verify and isinstance(path, Path):
            digest = hashlib.sha256()
            with open_stream(path) as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
            self._check_index(digest.hexdigest())
        return rows

    def _remote_index(self) -> Rows:
        assert self.store is not None
        content = self.store.read_file(INDEX_NAME, max_bytes=_MAX_INDEX)
        self._check_index(hashlib.sha256(content).hexdigest())
        return array_in(content)

    def _check_index(self, sha256: str) -> None:
        if sha256 != self.manifest.index_sha256:
            raise ManifestError(
                f"{self.folder / INDEX_NAME} has SHA-256 {sha256[:12]}…, its manifest says "
                f"{self.manifest.index_sha256[:12]}…; rebuild the index"
            )

    def _checked_rows(self, at: int) -> Rows:
        """The index rows of one shard, a plain view of the mapped file."""
        if self._index is None:
            self._index = self._map_index()
        shard, first = self.shards[at], self._first_row[at]
        rows = self._index[first : first + shard.samples].view(np.ndarray)
        check_rows(shard.name, rows, shard_bytes=shard.bytes)
        return rows

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_index": None, "_rows": [None] * len(self.shards)}


class _RemoteReader:
    """One request a sample, for what reads here and there."""

    def __init__(self, owner: ShardSet):
        self._owner = owner

    def read(self, path: str, offset: int, size: int) -> bytes:
        at = next(number for number, shard in enumerate(self._owner.shards) if shard.name == path)
        return bytes(self._owner.read_span(at, offset, offset + size))

    def close(self) -> None:
        pass
