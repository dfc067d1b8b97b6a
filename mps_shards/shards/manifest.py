"""``manifest.json`` describes a shard set. It is written last: a set without a manifest is not finished."""

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
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what msgspec raises for malformed JSON

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# A plain file name: never a path, never hidden, so that a hostile manifest cannot point outside its folder; and without
# control characters, which could rewrite what a terminal shows of a message.
FileName = Annotated[str, msgspec.Meta(pattern=r"\A[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\Z", max_length=255)]
ClassNames = Annotated[tuple[str, ...], msgspec.Meta(max_length=1 << 20)]
ColumnNames = Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(max_length=1 << 16)]
Id = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]  # label id of a mask, an int32

# Tasks, and the field of a sample that holds the target: a class number in ``.cls``; ascending class numbers in
# ``.json``, as {"labels": […]}; a number for each of `Manifest.columns` in ``.json``; a text in ``.txt``; a label map
# in ``.mask.png``; none.
Task = Literal["classification", "multilabel", "regression", "captions", "segmentation", "unlabeled"]


Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Colours = Annotated[tuple[tuple[Byte, Byte, Byte], ...], msgspec.Meta(max_length=1 << 16)]


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tar file of the set."""

    name: FileName
    samples: Count
    bytes: Count
    sha256: Digest


class Packed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the set was made: only options that decide its bytes, without times, paths or numbers of workers."""

    version: str
    layout: str
    seed: int | None
    options: dict[str, str | int | float | bool | None] = {}


class SetDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a manifest that the tars themselves cannot prove; see `Manifest`."""

    task: Task
    classes: ClassNames = ()
    ignore_index: Id | None = None
    columns: ColumnNames | msgspec.UnsetType = msgspec.UNSET
    colours: Colours | msgspec.UnsetType = msgspec.UNSET
    packed: Packed


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The description of a shard set.

    Optional fields that are not used are left out of the file, so that older sets keep their bytes.

    Attributes:
        task: Kind of the targets.
        classes: Class names; a label is an index into this list. Empty if there are no labels or no names.
        ignore_index: Mask value that stands for no class, or None.
        columns: Names of the numbers that are a sample's target, for "regression"; see also `column_names`.
        colours: Red, green and blue of the label ids 0, 1, …, as a palette gives them; used when label maps are drawn.
        samples: Number of samples in all shards together.
        bytes: Size of all shards together.
        index_sha256: SHA-256 of ``index.npy``.
        labels_sha256: SHA-256 of ``labels.npy``, if the set has this file.
        fingerprint: SHA-256 over everything that decides which samples the set holds and in which order.
    """

    format: Literal["mps-shards"] = "mps-shards"
    version: Literal[1] = VERSION
    task: Task
    classes: ClassNames = ()
    ignore_index: Id | None = None
    columns: ColumnNames | msgspec.UnsetType = msgspec.UNSET
    colours: Colours | msgspec.UnsetType = msgspec.UNSET
    samples: Count
    bytes: Count
    shards: tuple[ShardRecord, ...]
    index_sha256: Digest
    labels_sha256: Digest | msgspec.UnsetType = msgspec.UNSET
    packed: Packed
    fingerprint: str = ""

    @property
    def description(self) -> SetDescription:
        """Return the part of the manifest that the tars themselves cannot prove."""
        return SetDescription(**{name: getattr(self, name) for name in SetDescription.__struct_fields__})

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """The colours of label ids; empty if the manifest has none."""
        return () if self.colours is msgspec.UNSET else self.colours

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns; empty if the manifest has none."""
        return () if self.columns is msgspec.UNSET else self.columns

    def computed_fingerprint(self) -> str:
        """Return the SHA-256 (hex) of task, classes, columns, shards and index, without how the set was packed."""
        content: tuple[object, ...] = (self.task, self.classes, self.ignore_index, self.shards, self.index_sha256)
        if self.columns is not msgspec.UNSET:
            content = (*content, self.columns)
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of the file, indented, with its fingerprint filled in."""
    sealed = msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """Parse a manifest and check its types, totals, names and fingerprint.

    Args:
        where: The file's path, for messages.

    Raises:
        ManifestError: The manifest is malformed; the message names the file and the field.
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
            # memory for an epoch's order grows with the number of samples, so a huge number needs as many bytes
            raise ManifestError(f"{where}: {shard.bytes} bytes of {shard.name} cannot hold {shard.samples} samples")
    if len({shard.name for shard in manifest.shards}) != len(manifest.shards):
        raise ManifestError(f"{where} names a shard twice")
    if (manifest.task == "regression") != bool(manifest.column_names):
        raise ManifestError(f"{where}: the task is {manifest.task}, with {len(manifest.column_names)} columns")
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise ManifestError(f"{where}: its fingerprint does not match its content; was it edited by hand?")
    return manifest
