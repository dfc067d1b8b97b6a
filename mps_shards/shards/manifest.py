"""``manifest.json``, which describes a shard set. It is written last, so a set without a manifest is not finished."""

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
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # errors of msgspec for malformed JSON

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# A plain file name. Paths and hidden files are excluded, so that a hostile manifest cannot point outside its folder, as
# are control characters, which could change how a terminal shows a message.
FileName = Annotated[str, msgspec.Meta(pattern=r"\A[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*\Z", max_length=255)]
ClassNames = Annotated[tuple[str, ...], msgspec.Meta(max_length=1 << 20)]
ColumnNames = Annotated[tuple[Annotated[str, msgspec.Meta(min_length=1)], ...], msgspec.Meta(max_length=1 << 16)]
Id = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]  # label id of a mask, an int32

# Kinds of targets, in this order: a class number in ``.cls``; ascending class numbers in ``.json``, as {"labels": […]};
# a number for each of `Manifest.columns` in ``.json``; a text in ``.txt``; a label map in ``.mask.png``; no target.
Task = Literal["classification", "multilabel", "regression", "captions", "segmentation", "unlabeled"]

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Colours = Annotated[tuple[tuple[Byte, Byte, Byte], ...], msgspec.Meta(max_length=1 << 16)]


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tar file of a shard set: its name, number of samples, size in bytes and SHA-256."""

    name: FileName
    samples: Count
    bytes: Count
    sha256: Digest


class Packed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a shard set was made: only options that decide its bytes, without times, paths or numbers of workers."""

    version: str
    layout: str
    seed: int | None
    options: dict[str, str | int | float | bool | None] = {}


class SetDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a `Manifest` that cannot be computed from the tars."""

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
        format, version: constants that identify the file format.
        task: kind of the targets.
        classes: class names; a label is an index into this list. Empty if there are no labels or no names.
        ignore_index: label id that is not a class, or None.
        columns: names of the numbers that are a sample's target, for "regression"; see also `column_names`.
        colours: red, green and blue of the label ids 0, 1, …, for drawing label maps; see also `palette`.
        samples: number of samples of all shards together.
        bytes: size of all shards together.
        shards: the tar files, in order.
        index_sha256: SHA-256 of ``index.npy``.
        labels_sha256: SHA-256 of ``labels.npy``, if the set has this file.
        packed: how the set was made.
        fingerprint: SHA-256 of everything that decides which samples the set holds, and in which order.
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
        """The fields that cannot be computed from the tars."""
        return SetDescription(**{name: getattr(self, name) for name in SetDescription.__struct_fields__})

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """Red, green and blue of the label ids 0, 1, …; empty if the manifest has no colours."""
        return () if self.colours is msgspec.UNSET else self.colours

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the numbers that are a sample's target; empty if the manifest has no columns."""
        return () if self.columns is msgspec.UNSET else self.columns

    def computed_fingerprint(self) -> str:
        """Return the SHA-256 (hexadecimal) of task, classes, ignore_index, columns, shards and index."""
        content: tuple[object, ...] = (self.task, self.classes, self.ignore_index, self.shards, self.index_sha256)
        if self.columns is not msgspec.UNSET:
            content = (*content, self.columns)
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of ``manifest.json`` as indented JSON, with the fingerprint."""
    sealed = msgspec.structs.replace(manifest, fingerprint=manifest.computed_fingerprint())
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """Parse a manifest and check its types, totals, names and fingerprint.

    Args:
        content: content of the file.
        where: path of the file, for messages.

    Raises:
        ManifestError: the manifest is malformed; the message names the file and the field.
    """
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except NOT_JSON as error:
        raise ManifestError(f"{where}: {error}") from error
    for total in ("samples", "bytes"):
        stated, summed = getattr(manifest, total), sum(getattr(shard, total) for shard in manifest.shards)
        if stated != summed:
            raise ManifestError(f"{where} states {stated} {total}, but its shards add up to {summed}")
    for shard in manifest.shards:
        if shard.samples * BLOCK > shard.bytes:
            # memory for an epoch's order grows with the number of samples, so a false huge number could exhaust it
            raise ManifestError(
                f"{where} states {shard.samples} samples for {shard.name}, but its {shard.bytes} bytes cannot hold them"
            )
    if len({shard.name for shard in manifest.shards}) != len(manifest.shards):
        raise ManifestError(f"{where} names a shard twice")
    if (manifest.task == "regression") != bool(manifest.column_names):
        raise ManifestError(
            f"{where} states the task {manifest.task} with {len(manifest.column_names)} columns; a set for regression "
            "has at least one column, and any other set has none"
        )
    if manifest.fingerprint != manifest.computed_fingerprint():
        raise ManifestError(f"{where} has a fingerprint that does not match its content; was the file edited by hand?")
    return manifest
