"""``manifest.json``: what a shard set holds, written last, so a set without one is not finished."""

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from mps_shards.errors import ManifestError
from mps_shards.shards.tar import BLOCK

__all__ = [
    "MANIFEST_NAME",
    "NOT_JSON",
    "VERSION",
    "Manifest",
    "Packed",
    "SetDescription",
    "ShardRecord",
    "Task",
    "manifest_bytes",
    "parse_manifest",
]

MANIFEST_NAME: Final = "manifest.json"
VERSION: Final = 1
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what msgspec raises for odd bytes

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# A plain file name: never a path, never hidden, so that a hostile manifest cannot point outside its folder; and without
# control characters, which could rewrite what a terminal shows of a message.
FileName = Annotated[str, msgspec.Meta(pattern=r"\A[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\Z", max_length=255)]
ClassNames = Annotated[tuple[str, ...], msgspec.Meta(max_length=1 << 20)]
Id = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]  # of a mask, int32 at most
Task = Literal["classification", "segmentation", "unlabeled"]


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tar file of the set."""

    name: FileName
    samples: Count
    bytes: Count
    sha256: Digest


class Packed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the set was made. Nothing that the bytes do not depend on: no times, no paths, no worker counts."""

    version: str
    layout: str
    seed: int | None
    options: dict[str, str | int | float | bool | None] = {}


class SetDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a manifest that the tars themselves cannot prove; see `Manifest`."""

    task: Task
    classes: ClassNames = ()
    ignore_index: Id | None = None
    packed: Packed


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a shard set holds.

    Attributes:
        task: what the targets are.
        classes: class names; a label is a place in this list. Empty where there are no labels or no names.
        ignore_index: mask value that is no class, or None.
        samples: in all shards together.
        bytes: of all shards together.
        index_sha256: of ``index.npy``.
        fingerprint: SHA-256 over everything that decides which samples the set holds and in which order.
    """

    format: Literal["mps-shards"] = "mps-shards"
    version: Literal[1] = VERSION
    task: Task
    classes: ClassNames = ()
    ignore_index: Id | None = None
    samples: Count
    bytes: Count
    shards: tuple[ShardRecord, ...]
    index_sha256: Digest
    packed: Packed
    fingerprint: str = ""

    @property
    def description(self) -> SetDescription:
        """The part that the tars themselves cannot prove."""
        return SetDescription(**{name: getattr(self, name) for name in SetDescription.__struct_fields__})

    def computed_fingerprint(self) -> str:
        """SHA-256 (hex) over task, classes, shards and index; not over how the set was packed."""
        content = (self.task, self.classes, self.ignore_index, self.shards, self.index_sha256)
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file, indented for people, its fingerprint filled in."""
    sealed = msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """A manifest from its bytes, checked: types, totals, names, fingerprint.

    Args:
        where: the file's path, for messages.

    Raises:
        ManifestError: naming the file and the field.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except NOT_JSON as error:
        raise ManifestError(f"{where}: {error}") from error
    for total in ("samples", "bytes"):
        stated, summed = getattr(manifest, total), sum(getattr(shard, total) for shard in manifest.shards)
        if stated != summed:
            raise ManifestError(f"{where} states {stated} {total}, its shards add up to {summed}")
    for shard in manifest.shards:
        if shard.samples * BLOCK > shard.bytes:
            # what is allocated for an epoch's order grows with the samples: their number must be paid for in bytes
            raise ManifestError(f"{where}: {shard.bytes} bytes of {shard.name} cannot hold {shard.samples} samples")
    if len({shard.name for shard in manifest.shards}) != len(manifest.shards):
        raise ManifestError(f"{where} names a shard twice")
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise ManifestError(f"{where}: its fingerprint does not fit its content; was it edited by hand?")
    return manifest
