"""A shard set as it lies on the disk, for those who check, mend or rewrite it."""

import functools
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from mps_shards.errors import ManifestError, ShardError, StorageError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, ShardRecord, manifest_bytes, parse_manifest
from mps_shards.shards.sample_index import INDEX_NAME, ROW, Rows, check_rows, index_bytes
from mps_shards.storage.local_disk import (
    PART,
    array_in,
    map_array,
    read_file,
    replacing,
    sync_folder,
)
from mps_shards.storage.open_files import AnyReader, opened, size_of
from mps_shards.storage.remote_folder import RemoteFile, RemoteFolder

__all__ = ["StoredSet", "check_size", "finish_set", "read_set", "set_folders", "tars_in"]

_MAX_MANIFEST = 1 << 28  # a million shards need 150 MB
_MAX_INDEX = 1 << 30  # of one in a store: 67 million samples


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """A manifest, and the rows of its index by shard name.

    Attributes:
        index_fault: what is wrong with the index; then `rows` is empty.
    """

    folder: Path | RemoteFolder
    manifest: Manifest
    rows: Mapping[str, Rows] = field(repr=False)
    index_fault: str | None

    @property
    def here(self) -> Path:
        """Its folder, for what works on sets of this machine only."""
        assert isinstance(self.folder, Path)
        return self.folder

    @functools.cached_property
    def choice(self) -> FieldChoice:
        """Which fields of its samples are image and target."""
        return (FieldChoice.recorded(self.manifest.packed.options) or FieldChoice()).naming(self.manifest.classes)

    def content(self, shard: str, number: int, reader: AnyReader) -> bytes:
        """The tar blocks of one sample.

        Raises:
            ShardError: they are not those that the index names.
            StorageError: they cannot be read.
        """
        offset, size, crc32 = self.rows[shard][number].item()
        content = reader.read_of(self.folder / shard, offset, size)
        if zlib.crc32(content) != crc32:
            raise ShardError(
                f"sample number {number} of {self.folder / shard} is damaged: its bytes have CRC-32 "
                f"{zlib.crc32(content):08x}, the index says {crc32:08x}; see mps-shards verify and repair"
            )
        return content


def read_set(folder: Path | RemoteFolder, *, whole: bool = False) -> StoredSet:
    """The manifest and index of a set.

    Args:
        whole: the index must be right, and each tar of a folder here have the size that the manifest states.

    Raises:
        ManifestError: no manifest, or a malformed one; with `whole`, an index that does not fit it.
        ShardError: with `whole`, a tar of another size.
        StorageError: a file is missing or cannot be read.
    """
    manifest = _manifest(folder)
    fault, rows = None, {}
    try:
        rows = _rows_by_shard(folder / INDEX_NAME, manifest)
    except (ManifestError, StorageError) as error:
        fault = str(error)
    if whole:
        if fault:
            raise ManifestError(f"{fault}; mps-shards repair rebuilds it")
        for shard in manifest.shards if isinstance(folder, Path) else ():
            check_size(folder / shard.name, shard)
    return StoredSet(folder=folder, manifest=manifest, rows=rows, index_fault=fault)


def check_size(file: Path | RemoteFile, shard: ShardRecord) -> None:
    """Raise ShardError unless a tar has the size that its manifest states."""
    if (size := size_of(file)) != shard.bytes:
        raise ShardError(f"shard {file} has {size} bytes, its manifest says {shard.bytes}")


def _manifest(folder: Path | RemoteFolder) -> Manifest:
    if isinstance(folder, RemoteFolder):
        if not folder.has(MANIFEST_NAME):
            raise ManifestError(f"{folder.where} has no {MANIFEST_NAME}; for tars of others, see mps-shards index")
        content = folder.read_file(MANIFEST_NAME, max_bytes=_MAX_MANIFEST)
        return parse_manifest(content, where=str(folder / MANIFEST_NAME))
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise StorageError(f"{folder}: {'not a directory' if folder.exists() else 'no such directory'}")
    if not path.exists():
        hint = "it is no finished shard set"
        if below := set_folders(folder):
            hint = f"name one of the sets in it: {', '.join(map(str, below))}"
        elif any(folder.glob(f"*{PART}")):
            hint = "it is an unfinished pack; pack again"
        elif tars_in(folder):
            hint = "for tars of others, see mps-shards index"
        raise ManifestError(f"{folder} has no {MANIFEST_NAME}; {hint}")
    return parse_manifest(read_file(path, max_bytes=_MAX_MANIFEST), where=str(path))


def _rows_by_shard(path: Path | RemoteFile, manifest: Manifest) -> dict[str, Rows]:
    sha256 = hashlib.sha256()
    with opened(path) as file:
        while content := file.read(1 << 20):
            sha256.update(content)
    digest = sha256.hexdigest()
    try:
        found = (
            map_array(path)
            if isinstance(path, Path)
            else array_in(path.folder.read_file(path.name, max_bytes=_MAX_INDEX))
        )
    except ValueError as error:
        raise ManifestError(f"{path} is no index: {error}") from error
    if digest != manifest.index_sha256:
        what = f"{path} has SHA-256 {digest[:12]}…, the manifest says {manifest.index_sha256[:12]}…"
        raise ManifestError(f"{what} ({len(found) if found.ndim else 0} rows, {manifest.samples} samples)")
    if found.dtype != ROW or found.shape != (manifest.samples,):
        raise ManifestError(f"{path} has {found.shape} rows of {found.dtype}, not {manifest.samples} of {ROW}")
    starts = [0, *accumulate(shard.samples for shard in manifest.shards)]
    rows = {}
    for shard, start in zip(manifest.shards, starts, strict=False):
        rows[shard.name] = found[start : start + shard.samples]
        check_rows(shard.name, rows[shard.name], shard_bytes=shard.bytes)
    return rows


def finish_set(folder: Path | RemoteFolder, manifest: Manifest, rows: Sequence[Rows]) -> Manifest:
    """Write index and manifest, in this order, each by rename; totals, digest and fingerprint are filled in.

    Args:
        rows: of each shard, in the manifest's order.
    """
    import msgspec

    index = index_bytes([np.asarray(part) for part in rows])
    sealed = msgspec.structs.replace(
        manifest,
        samples=sum(shard.samples for shard in manifest.shards),
        bytes=sum(shard.bytes for shard in manifest.shards),
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    sealed = msgspec.structs.replace(sealed, fingerprint=sealed.computed_fingerprint())
    for name, content in ((INDEX_NAME, index), (MANIFEST_NAME, manifest_bytes(sealed))):
        if isinstance(folder, RemoteFolder):
            folder.write(name, content)
            continue
        with replacing(folder / name) as file:
            file.write(content)
        sync_folder(folder)
    return sealed


def set_folders(folder: Path) -> list[Path]:
    """The shard sets right below a folder, sorted; itself alone where it is one."""
    if (folder / MANIFEST_NAME).exists():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}"))


def tars_in(folder: Path) -> list[str]:
    """File names of the tars that lie right in a folder, sorted."""
    return sorted(path.name for path in folder.glob("*.tar") if path.is_file())
