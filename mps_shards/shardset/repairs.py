"""Repair of a damaged set from its sound samples. No file is deleted, and every loss is reported."""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
from msgspec import UNSET

from mps_shards.errors import DataError, ManifestError, ShardError
from mps_shards.shards.manifest import MANIFEST_NAME, NOT_JSON, Manifest, SetDescription
from mps_shards.shards.raw_sample import Buffer
from mps_shards.shards.sample_index import INDEX_NAME, Rows
from mps_shards.shards.sample_labels import LABELS_NAME
from mps_shards.shards.tar import END
from mps_shards.shardset.opening import StoredSet, open_set, tars_in
from mps_shards.shardset.repeated_keys import repeated_keys_in
from mps_shards.shardset.scan import Scan, scan_shard, scan_shards
from mps_shards.shardset.sealing import sealed
from mps_shards.shardset.staged_changes import Journal, StagedChanges
from mps_shards.shardset.verification import damaged_rows, target_faults, whole_rows
from mps_shards.storage.folder import File, Folder, WritableFolder
from mps_shards.storage.local_disk import PART
from mps_shards.storage.location import open_folder

__all__ = ["QUARANTINE", "Loss", "RepairReport", "Step", "repair"]

QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a repair: the action (salvage, quarantine, restore, adopt or rebuild), the file, and the reason."""

    what: str
    where: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Samples that the repaired set lacks: one sample, or a number of unknown samples of a shard."""

    shard: str
    samples: int
    why: str
    sample: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """Result of a repair, or of a dry run. Without steps, the set was sound and was not changed.

    Attributes:
        before: number of samples that the manifest states; None if the manifest cannot be read.
        after: number of samples of the repaired set.
        trusted: values that were taken from a malformed manifest although the shards cannot prove them.
    """

    folder: str
    dry_run: bool
    before: int | None
    after: int
    steps: tuple[Step, ...]
    lost: tuple[Loss, ...]
    trusted: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Plan:
    """Plan of a repair: what happens to each tar. Final names are in the order of the new manifest."""

    steps: list[Step] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    kept: dict[str, Scan] = field(default_factory=dict)  # scans of kept tars by final name
    restored: dict[str, str] = field(default_factory=dict)  # final names of renamed tars by present name
    salvaged: dict[str, Rows] = field(default_factory=dict)  # rows of the samples to copy, by name of the tar
    quarantined: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def note(self, what: str, where: str, why: str) -> None:
        self.steps.append(Step(what=what, where=where, why=why))


def repair(
    folder: WritableFolder | str | os.PathLike[str],
    *,
    dry_run: bool = False,
    salvage: bool = True,
    trust_manifest: bool = False,
    workers: int | None = None,
    on_start: Callable[[int], None] = lambda size: None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> RepairReport:
    """Rebuild index and manifest from the sound tars of a set.

    A damaged tar is moved to ``SET/quarantine``; its samples whose CRC-32 matches the index are written to a new tar of
    the same name. Renamed tars get their names back. Sound tars that the manifest does not list are added. A repair
    that was killed at any time and is repeated gives the same result as an undisturbed one.

    Args:
        dry_run: change nothing.
        salvage: keep the sound samples of damaged tars; otherwise such tars are dropped entirely.
        trust_manifest: take task, class names and ignore_index from a malformed manifest although nothing proves them.
        workers, on_start, on_progress: as for `verify`.

    Raises:
        DataError: the set has no sound samples.
        ManifestError: there is no manifest, its task and classes cannot be read, or nothing proves them and
            `trust_manifest` is not set.
        StorageError: the folder cannot be read or written.
    """
    folder = open_folder(folder)
    changes = StagedChanges(folder)
    if (journal := changes.unfinished()) is not None:
        if not dry_run:
            changes.carry_out(journal)
        return msgspec.convert({"folder": str(folder), "dry_run": dry_run, **journal.report}, RepairReport)
    stored, claimed = _opened(folder)
    names = tars_in(folder)
    on_start(sum(map(folder.size, names)))
    found = scan_shards(
        [folder / name for name in names], workers=workers, choice=stored.choice, on_progress=on_progress
    )
    scans = dict(zip(names, found, strict=True))
    trusted = () if claimed is None or _is_proven(stored, claimed, scans) else _unproven(stored.manifest)
    if trusted and not trust_manifest:
        raise ManifestError(
            f"{stored.index_fault}. Its shards cannot prove {' and '.join(trusted)}: check these values, "
            "then repair with --trust-manifest; or restore the manifest from a copy"
        )
    plan = _plan(stored, scans, salvage=salvage)
    report = RepairReport(
        folder=str(folder),
        dry_run=dry_run,
        before=stored.manifest.samples if claimed is None else None,
        after=sum(scan.record.samples for scan in plan.kept.values()) + sum(map(len, plan.salvaged.values())),
        steps=tuple(plan.steps),
        lost=tuple(plan.lost),
        trusted=trusted,
    )
    if plan.steps and not dry_run:
        _carry_out(folder, stored, plan, report)
    elif not dry_run:
        changes.tidy()  # removes files of a run that was stopped during preparation
    return report


class _Claims(SetDescription, frozen=True, kw_only=True):
    """Values that a malformed manifest still holds."""

    fingerprint: str = ""


def _opened(folder: Folder) -> tuple[StoredSet, _Claims | None]:
    """Open the set; for a malformed but readable manifest, return an empty one and the values that it claims."""
    try:
        return open_set(folder), None
    except ManifestError as error:
        if not folder.has(MANIFEST_NAME):
            raise
        try:
            claims = msgspec.json.decode(folder.read_file(MANIFEST_NAME, max_bytes=1 << 28), type=_Claims)
        except NOT_JSON:
            error.add_note(
                "task and classes cannot be read from the manifest: move it away, and run mps-shards index --classes"
            )
            raise error from None
        manifest = sealed(claims, [], with_labels=False).manifest
        return StoredSet(folder=folder, manifest=manifest, rows={}, index_fault=str(error)), claims


def _is_proven(stored: StoredSet, claims: _Claims, scans: dict[str, Scan]) -> bool:
    """Return whether the fingerprint in a malformed manifest matches its claims together with these shards."""
    if any(scan.faults for scan in scans.values()):
        return False
    contents = [scans[name].contents() for name in sorted(scans)]
    return sealed(stored.manifest.description, contents).manifest.fingerprint == claims.fingerprint


def _unproven(manifest: Manifest) -> tuple[str, ...]:
    """Return the statements of a manifest that no shard can prove."""
    names = ", ".join(manifest.classes[:5]) + (", …" if len(manifest.classes) > 5 else "")
    statements = [f"the task {manifest.task}"]
    if manifest.classes:
        statements.append(f"the order of its {len(manifest.classes)} class names ({names})")
    if manifest.ignore_index is not None:
        statements.append(f"that label id {manifest.ignore_index} is not a class")
    if manifest.column_names:
        statements.append(f"the names of its columns ({', '.join(manifest.column_names[:5])})")
    return tuple(statements)


def _plan(stored: StoredSet, scans: dict[str, Scan], *, salvage: bool) -> _Plan:
    plan = _Plan()
    by_digest = {scan.record.sha256: name for name, scan in scans.items()}
    listed = {shard.name for shard in stored.manifest.shards}
    unlisted = {name for name in scans if name not in listed}
    for shard in stored.manifest.shards:
        scan = scans.get(shard.name)
        home = shard.name if scan and scan.record.sha256 == shard.sha256 else by_digest.get(shard.sha256)
        if home:
            plan.kept[shard.name] = scans[home]
            plan.order.append(shard.name)
            unlisted.discard(home)
            if home != shard.name:
                plan.restored[home] = shard.name
                plan.note("restore", shard.name, f"it has the name {home}")
                if shard.name in scans:
                    unlisted.add(shard.name)
        elif scan is None:
            plan.note("drop", shard.name, "it is missing")
            plan.lost.append(
                Loss(shard=shard.name, samples=shard.samples, why="the shard is missing, so its keys are unknown")
            )
        else:
            _plan_changed(stored, scan, plan, salvage=salvage)
    unlisted -= plan.restored.keys()
    for name in sorted(unlisted):
        faults = [*scans[name].faults, *target_faults(stored.manifest, scans[name])]
        if name in plan.restored.values():
            plan.quarantined.append(name)
            plan.note("quarantine", name, "it had the name of another shard")
        elif faults:
            plan.quarantined.append(name)
            plan.note("quarantine", name, f"the manifest does not list it, and it is damaged: {faults[0].detail}")
        else:
            plan.kept[name] = scans[name]
            plan.order.append(name)
            plan.note(
                "adopt", name, f"it is sound, but the manifest does not list its {scans[name].record.samples} samples"
            )
    _quarantine_repeated_keys(stored, plan)
    plan.steps += [
        Step(what="quarantine", where=name, why="an interrupted run left it") for name in _unfinished(stored.folder)
    ]
    fault = stored.index_fault or stored.labels_fault
    if plan.steps or fault or not _rows_fit(stored, plan):
        files = [INDEX_NAME, *([LABELS_NAME] if _has_labels(stored) else []), MANIFEST_NAME]
        plan.note("rebuild", ", ".join(files), fault or "they must match the shards")
    if plan.steps and not plan.order:
        raise DataError(f"{stored.folder} holds no sound shard; nothing was changed")
    return plan


def _has_labels(stored: StoredSet) -> bool:
    return stored.manifest.labels_sha256 is not UNSET or stored.folder.has(LABELS_NAME)


def _rows_fit(stored: StoredSet, plan: _Plan) -> bool:
    return all(
        np.array_equal(scan.rows, stored.rows[name])
        and np.array_equal(scan.labels, stored.labels.get(name, scan.labels))
        for name, scan in plan.kept.items()
    )


def _plan_changed(stored: StoredSet, scan: Scan, plan: _Plan, *, salvage: bool) -> None:
    """Plan for a tar whose digest differs from the manifest: it is damaged, or was replaced."""
    name = scan.record.name
    file = stored.folder / name
    known = stored.rows.get(name)
    whole = None if known is None else whole_rows(file, known)
    bad = {} if whole is None else {number: (key, why) for number, key, why in damaged_rows(file, whole)}
    sound = not scan.faults and not any(target_faults(stored.manifest, scan))
    if sound and whole is not None and len(bad) == len(whole):
        plan.kept[name] = scan
        plan.order.append(name)
        plan.note("adopt", name, f"replaced by another sound shard, of {scan.record.samples} samples")
        return
    good = scan.rows if whole is None and scan.faults else None if whole is None else np.delete(whole, list(bad))
    if salvage and good is not None and len(good):
        plan.salvaged[name] = good
        plan.order.append(name)
        plan.note("salvage", name, f"{len(good)} of its samples are sound and are kept")
    else:
        bad = {}
    plan.quarantined.append(name)
    plan.note("quarantine", name, scan.faults[0].detail if scan.faults else "its SHA-256 differs from the manifest's")
    plan.lost += [Loss(shard=name, samples=1, sample=n, key=key, why=why) for n, (key, why) in sorted(bad.items())]
    stated = next(shard.samples for shard in stored.manifest.shards if shard.name == name)
    rest = stated - len(plan.salvaged.get(name, ())) - len(bad)
    if rest > 0:
        why = "they are after the damage" if name in plan.salvaged else "they are in the quarantined shard"
        plan.lost.append(Loss(shard=name, samples=rest, why=why))


def _quarantine_repeated_keys(stored: StoredSet, plan: _Plan) -> None:
    """Quarantine tars whose keys occur in an earlier tar."""
    present = {final: name for name, final in plan.restored.items()}
    kept = [name for name in plan.order if name in plan.kept]
    files = [stored.folder / present.get(name, name) for name in kept]
    found = {
        repetition.shard: repetition
        for repetition in repeated_keys_in(files, [plan.kept[name].hashes for name in kept])
    }
    for shard, repetition in found.items():
        name, file = kept[shard], files[shard]
        plan.order.remove(name)
        del plan.kept[name]
        plan.quarantined.append(file.name)
        plan.restored.pop(file.name, None)
        plan.steps = [step for step in plan.steps if step.where != name]
        why = f"its key {repetition.key!r} is also in {kept[repetition.first]}"
        plan.note("quarantine", name, why)
        plan.lost += [
            Loss(shard=name, samples=shard.samples, why=f"another shard has taken its place: {why}")
            for shard in stored.manifest.shards
            if shard.name == name
        ]


def _carry_out(folder: WritableFolder, stored: StoredSet, plan: _Plan, report: RepairReport) -> None:
    """Write salvaged shards, index and manifest to a folder aside, then move all files to their final paths."""
    changes = StagedChanges(folder)
    changes.begin()
    for name, rows in plan.salvaged.items():
        with folder.writing(changes.aside(name)) as file:
            file.writelines(_contents(folder / name, rows))
            file.write(END)
    whole = {name: scan_shard(folder / changes.aside(name), choice=stored.choice) for name in plan.salvaged}
    contents = [(plan.kept.get(name) or whole[name]).contents(name) for name in plan.order]
    sealed_files = sealed(stored.manifest.description, contents, with_labels=_has_labels(stored)).files
    for name, content in sealed_files.items():
        folder.write(changes.aside(name), content)
    taken = [(name, _unused_path(folder, name)) for name in (*plan.quarantined, *_unfinished(folder))]
    taken += [(name, changes.aside(final)) for name, final in plan.restored.items()]
    placed = (*plan.salvaged, *plan.restored.values(), *sealed_files)
    outcome = {name: getattr(report, name) for name in ("before", "after", "steps", "lost", "trusted")}
    changes.carry_out(Journal(taken=tuple(taken), placed=placed, report=msgspec.to_builtins(outcome)))


def _unfinished(folder: Folder) -> list[str]:
    return [name for name in folder.names() if name.endswith(PART)]


def _contents(source: File, rows: Rows) -> Iterator[Buffer]:
    for offset, size, crc32 in rows.tolist():
        content = source.read(offset, offset + size)
        if zlib.crc32(content) != crc32:
            raise ShardError(f"{source} changed while it was repaired")
        yield content


def _unused_path(folder: Folder, name: str) -> str:
    """Return an unused path in the quarantine, so that no file there is overwritten."""
    numbered = (f"{QUARANTINE}/{name}.{number}" if number else f"{QUARANTINE}/{name}" for number in range(1 << 20))
    return next(free for free in numbered if not folder.has(free))
