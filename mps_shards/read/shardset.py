"""A shard set with manifest and index: any sample by its number, one ranged read each."""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from mps_shards.errors import ConfigError, DataError, ManifestError, ShardError, StorageError
from mps_shards.shards.index import INDEX_NAME, ROW, Rows
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, parse_manifest
from mps_shards.shards.naming import split_member
from mps_shards.shards.sample import Buffer, RawSample
from mps_shards.shards.tar import BLOCK, members
from mps_shards.storage.local import RangeReader, file_size, map_array, read_file
from mps_shards.storage.location import Location

__all__ = ["ShardSet", "read_manifest", "sample_from"]

_MAX_MANIFEST = 1 << 30  # a million shards need 150 MB


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard set.

    Raises:
        ManifestError: there is none, or it is malformed; names the sets below the folder, if any.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise StorageError(f"{folder}: {'not a directory' if folder.exists() else 'no such directory'}")
    if not path.exists():
        below = sorted(str(found.parent) for found in folder.glob(f"*/{MANIFEST_NAME}"))
        hint = f"name one of the sets in it: {', '.join(below)}" if below else "it is no finished shard set"
        raise ManifestError(f"{folder} has no {MANIFEST_NAME}; {hint}")
    return parse_manifest(read_file(path, max_bytes=_MAX_MANIFEST), where=str(path))


class ShardSet:
    """Random access to the samples of one set.

    Opening reads the manifest and the size of each tar. The index is mapped at the first read, in each process by
    itself, so a set pickles small. Reading is safe from any thread.

    Args:
        location: a folder with a manifest; with names, only those tars of it, in that order.

    Attributes:
        counts: samples of each shard.
        fingerprint: the manifest's, or one of the chosen shards.

    Raises:
        ManifestError: no manifest, malformed, or it does not list a chosen tar.
        ShardError: a tar has not the size that the manifest states.
        StorageError: a tar is missing.
    """

    def __init__(self, location: Location):
        self.folder = location.folder
        self.manifest = read_manifest(location.folder)
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
        self._paths = [str(self.folder / shard.name) for shard in self.shards]
        self._reader = RangeReader()
        self._rows: Rows | None = None
        for shard in self.shards:
            size = file_size(self.folder / shard.name)
            if size != shard.bytes:
                raise ShardError(f"shard {self.folder / shard.name} has {size} bytes, its manifest says {shard.bytes}")

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, number: int) -> RawSample:
        """The sample of this number, counted over the shards in order.

        Raises:
            ShardError: its bytes are no whole sample.
            StorageError: they cannot be read.
        """
        at = bisect_right(self._starts, number) - 1
        shard = self.shards[at]
        if self._rows is None:
            self._rows = self._map_index()
        offset, size, _ = self._rows[self._first_row[at] + number - self._starts[at]].item()
        if offset + size > shard.bytes or size < BLOCK:
            raise ManifestError(f"{self.folder / INDEX_NAME} names bytes beyond {shard.name}; rebuild the index")
        return sample_from(self._reader.read(self._paths[at], offset, size), shard=shard.name)

    def close(self) -> None:
        """Close open files; the set can be used again."""
        self._reader.close()
        self._rows = None

    def _map_index(self) -> Rows:
        path = self.folder / INDEX_NAME
        try:
            rows = map_array(path)
        except ValueError as error:
            raise ManifestError(f"{path} is no index: {error}") from error
        if rows.dtype != ROW or rows.shape != (self.manifest.samples,):
            raise ManifestError(
                f"{path} has {rows.shape} rows of {rows.dtype}, the manifest says {self.manifest.samples} of {ROW}"
            )
        return rows

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_rows": None}


def sample_from(content: Buffer, *, shard: str) -> RawSample:
    """The one sample in a run of tar blocks; its fields are views into `content`.

    Raises:
        ShardError: the bytes hold no sample, more than one, or a field twice.
    """
    view = memoryview(content)
    fields: dict[str, Buffer] = {}
    key = None
    for name, start, stop in members(content, where=f"shard {shard}"):
        try:
            found, field = split_member(name)
        except DataError as error:
            raise ShardError(f"shard {shard}: {error}") from error
        if key is not None and found != key:
            raise ShardError(f"shard {shard}: samples {key!r} and {found!r} in one index row; rebuild the index")
        if field in fields:
            raise ShardError(f"shard {shard}: sample {found!r} holds the field {field!r} twice")
        key = found
        fields[field] = view[start:stop]
    if key is None:
        raise ShardError(f"shard {shard}: an index row without a sample; rebuild the index")
    return RawSample(key=key, shard=shard, fields=fields)
