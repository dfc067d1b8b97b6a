"""Indexing of foreign tars, local or in a store: checks the tars, then writes a manifest and an index."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from msgspec import UNSET

from mps_shards.errors import ConfigError, DataError, ManifestError, ShardError, ShardsError, StorageError
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import MANIFEST_NAME, Packed, SetDescription, Task
from mps_shards.shards.name_folding import find_colliding_names
from mps_shards.shardset.contents import labels_in
from mps_shards.shardset.opening import find_manifest, open_set
from mps_shards.shardset.repeated_keys import repeated_keys_in
from mps_shards.shardset.scan import Scan, scan_shards
from mps_shards.shardset.sealing import add_labels, write_set
from mps_shards.storage.folder import File, FileMissing, Folder, WritableFolder
from mps_shards.storage.local_disk import PART
from mps_shards.storage.location import Location, open_folder
from mps_shards.storage.ordered_map import ordered_map

__all__ = ["AdoptReport", "adopt", "index_labels"]

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
_ENDINGS = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MAX_NOTES = 20  # faults that an error lists
_REQUESTS = 16  # number of tars whose first bytes are requested at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptReport:
    """Result of indexing existing tars.

    Attributes:
        folder: folder of the tars.
        out: folder of the manifest and the index.
        fields: number of samples that hold each field.
        passed_over: number of entries that belong to no sample, by kind.
        target: fields, or parts of JSON fields, that hold the targets.
        largest_label: largest class index; -1 without labels.
        repeated_key: a key that several shards hold; None if keys are unique.
    """

    folder: str
    out: str
    task: Task
    shards: int
    samples: int
    bytes: int
    classes: int
    fields: dict[str, int]
    passed_over: dict[str, int]
    target: tuple[str, ...]
    largest_label: int
    repeated_key: str | None
    fingerprint: str


def adopt(
    location: Location | str | os.PathLike[str],
    *,
    out: WritableFolder | str | os.PathLike[str] | None = None,
    choice: FieldChoice | None = None,
    classes: Sequence[str] = (),
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda size: None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> AdoptReport:
    """Write a manifest and an index for the tars in a folder, in the order of their names. The tars are not changed.

    Tars in a store are streamed once, several at the same time, because digests and checks need every byte.

    Args:
        location: a folder, or some tars of a folder.
        out: folder of manifest and index, later given to `ShardDataset` as `index`; the folder of the tars by default.
        choice: fields of image and target; the manifest records the choice. By default `cls` is a class index,
            `mask.png` a label map, and `txt` alone a caption. A sample without any of them is unlabelled. The
            image is the only field that is named like the extension of an image file.
        classes: class names in the order of the class indices; without them classes have no names.
        workers, on_start, on_progress: as for `verify`.

    Raises:
        ConfigError: there are no uncompressed tars, the folder cannot be written to, or there are too few class names.
        DataError: a tar is damaged, or its samples are of several kinds; the message lists all faults.
        ManifestError: the folder already has a manifest.
        StorageError: a file cannot be read or written.
    """
    location = location if isinstance(location, Location) else Location(open_folder(location))
    destination = None if out is None else open_folder(out)
    _check_out(location, destination)
    choice = (choice or FieldChoice()).naming(tuple(classes))
    if choice.task == "multilabel" and not classes:
        raise ConfigError("a multi-label set needs the names of its classes; name a file with them: --classes FILE")
    tars, size = _tars(location)
    on_start(size)
    scans = list(scan_shards(tars, workers=workers, choice=choice, on_progress=on_progress))
    _check(location.folder, scans)
    samples = sum(scan.record.samples for scan in scans)
    targets = _counted(scan.targets for scan in scans)
    task = _task_of(location.folder, choice, targets, samples)
    largest = max((int(scan.labels.max()) for scan in scans if len(scan.labels)), default=-1)
    if classes and task == "classification" and largest >= len(classes):
        raise ConfigError(f"{location.folder} has labels up to {largest}, but only {len(classes)} classes are named")
    repeated = next(repeated_keys_in(tars, [scan.hashes for scan in scans], [scan.rows for scan in scans]), None)
    fields = dict(sorted(_counted(scan.fields for scan in scans).items()))
    description = _description(task, classes, choice, fields, repeats_keys=repeated is not None)
    try:
        manifest = write_set(destination or location.folder, description, [scan.contents() for scan in scans])
    except StorageError as error:
        if out is None:
            error.add_note("the tars are sound; if their folder is read-only, name another folder with --out")
        raise
    return AdoptReport(
        folder=str(location.folder),
        out=str(destination or location.folder),
        task=task,
        shards=len(scans),
        samples=samples,
        bytes=manifest.bytes,
        classes=len(manifest.classes),
        fields=fields,
        passed_over=dict(sorted(_counted(scan.passed_over for scan in scans).items())),
        target=tuple(sorted(targets)),
        largest_label=largest,
        repeated_key=None if repeated is None else repeated.key,
        fingerprint=manifest.fingerprint,
    )


def index_labels(folder: WritableFolder | str | os.PathLike[str], *, workers: int | None = None) -> int | None:
    """Add ``labels.npy`` to a shard set for classification that was made without it.

    Returns:
        Number of labels written; None if there is no set, or the set needs no labels.

    Raises:
        DataError: the set is damaged, or a label is not a class number.
        StorageError: a file cannot be read or written.
    """
    folder = open_folder(folder)
    try:
        folder.check()
    except FileMissing:
        return None
    manifest = find_manifest(folder, ())
    if manifest is None or manifest.task != "classification" or manifest.labels_sha256 is not UNSET:
        return None
    stored = open_set(folder, whole=True)
    files = [folder / shard.name for shard in manifest.shards]
    labels = ordered_map(lambda file: labels_in(file, stored.rows[file.name], stored.choice), files, workers=workers)
    add_labels(folder, manifest, list(labels))
    return manifest.samples


def _check_out(location: Location, out: WritableFolder | None) -> None:
    """Check before reading that there is no manifest yet and that one can be written."""
    folder = location.folder
    folder.check()
    if out is not None:
        out.check_writable()
        if out.has(MANIFEST_NAME):
            raise ManifestError(f"{out} has a {MANIFEST_NAME} already; name another folder")
        return
    if location.names is not None and not folder.waits:
        raise ConfigError(
            f"a part of the tars of {folder} cannot be indexed in place; name the folder, or another folder with --out"
        )
    try:
        folder.check_writable()
    except ShardsError as error:
        hint = "name a writable folder with --out"
        if folder.path is not None:
            hint += f", or fill a folder with links to the tars (ln -s {folder}/*.tar .) and index that folder"
        raise type(error)(f"{error}; {hint}") from None
    if folder.has(MANIFEST_NAME):
        raise ManifestError(f"{folder} has a {MANIFEST_NAME} already; mps-shards verify checks it, repair rebuilds it")


def _tars(location: Location) -> tuple[list[File], int]:
    """Return the tars and their total size, after reading the first bytes of each."""
    folder = location.folder
    held = list(location.names) if location.names and folder.waits else folder.names()
    if unfinished := next((name for name in held if name.endswith(PART)), None):
        raise StorageError(f"{folder} holds an unfinished pack ({unfinished}); pack again")
    names = [name for name in location.names or held if name.endswith((".tar", *_ENDINGS))]
    if not names:
        raise ConfigError(f"{folder} holds no *.tar; for a folder of images see mps-shards pack")
    if pair := find_colliding_names(names):
        raise ConfigError(
            f"{pair[0]} and {pair[1]} in {folder} differ only in case or Unicode normal form, which some disks "
            "treat as equal; rename one of them"
        )
    files = [folder / name for name in names]
    return files, sum(ordered_map(_uncompressed_size, files, workers=_REQUESTS, name="mps-shards-look"))


def _uncompressed_size(file: File) -> int:
    """Return the size of a tar. Raises ConfigError if the tar is compressed."""
    with file.open_stream() as stream:
        command = _COMPRESSED.get(stream.read(2))
    if command or file.name.endswith(_ENDINGS):
        what = f"decompress it ({command or 'tar'} {file.name}) or leave it out"
        raise ConfigError(f"{file} is compressed, so its samples cannot be read one by one; {what}")
    return file.size()


def _check(folder: Folder, scans: Sequence[Scan]) -> None:
    faults = [(scan.record.name, fault.detail) for scan in scans for fault in scan.faults]
    if faults:
        name, detail = faults[0]
        more = f", and {len(faults) - 1} more faults were found" if len(faults) > 1 else ""
        error = ShardError(f"{folder / name}: {detail}{more}; nothing was written")
        for name, detail in faults[1:_MAX_NOTES]:
            error.add_note(f"{name}: {detail}")
        raise error
    if not sum(scan.record.samples for scan in scans):
        raise DataError(f"the tars in {folder} hold no samples")


def _counted(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _description(
    task: Task, classes: Sequence[str], choice: FieldChoice, fields: Iterable[str], *, repeats_keys: bool
) -> SetDescription:
    """Return the description of the set for its manifest, without the shards."""
    return SetDescription(
        task=task,
        classes=tuple(classes) if task in ("classification", "multilabel", "segmentation") else (),
        columns=choice.columns or UNSET,
        packed=Packed(
            version=version("mps-shards"),
            layout="tars of others",
            seed=None,
            options={"fields": ",".join(fields), **choice.options(), "repeated_keys": repeats_keys or None},
        ),
    )


def _task_of(folder: Folder, choice: FieldChoice, targets: dict[str, int], samples: int) -> Task:
    """Return the chosen task, or the task that follows from the fields of the samples."""
    if choice.task is not None:
        if choice.has_other_targets and (held := sum(targets.values())) != samples:
            raise DataError(f"only {held} of the {samples} samples in {folder} have a target for {choice.task}")
        return choice.task
    if len(targets) > 1:
        found = " and ".join(targets)
        raise DataError(f"the samples in {folder} have different targets, {found}; name one, or none, with --target")
    for name, number in targets.items():
        if number != samples:
            raise DataError(
                f"only {number} of the {samples} samples in {folder} have the field {name}; name another field, or "
                "none, with --target"
            )
        return choice.kind_of(name)
    return "unlabeled"
