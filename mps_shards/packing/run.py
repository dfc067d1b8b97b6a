"""Running of a pack: list the source, plan the shards, make the shards, write index and manifest."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import overload

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.destinations.destination import Destination
from mps_shards.packing.destinations.local_folder import LocalDestination
from mps_shards.packing.destinations.object_store_folder import StoreDestination
from mps_shards.packing.duplicate_images import Numbers, find_duplicates, without
from mps_shards.packing.executors.array_job import share
from mps_shards.packing.executors.local_threads import run_local
from mps_shards.packing.executors.ray_cluster import run_ray
from mps_shards.packing.finished_sets import finish
from mps_shards.packing.option_values import parse_size
from mps_shards.packing.outline import outline
from mps_shards.packing.pack_options import PackOptions, WorkOptions
from mps_shards.packing.pack_report import Duplicates, PackedSet, PackPlan, PackReport, Skipped
from mps_shards.packing.plan import SetPlan, plan_shards
from mps_shards.packing.sample_fields import FieldRules, rules_of, settled
from mps_shards.packing.shard_writer import Progress, ShardTask
from mps_shards.packing.source_checks import count_bad_samples, is_packed_already, refuse_changed
from mps_shards.packing.sources.listing import Listing
from mps_shards.packing.sources.source import Source
from mps_shards.packing.splits import split_listing, subset_listing
from mps_shards.packing.understanding import Understanding, refuse_doubts, understand
from mps_shards.shards.name_folding import alike
from mps_shards.shardset.opening import open_set, set_folders
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.location import open_folder

__all__ = ["OnUnderstanding", "commit_pack", "run_pack"]

OnUnderstanding = Callable[[Understanding], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks(Sequence[ShardTask]):
    """The shards of all sets as tasks. Each task is built on access."""

    source: Source
    destination: Destination
    plans: Sequence[SetPlan]
    splits: Sequence[str]
    skip_bad: bool

    def __len__(self) -> int:
        return sum(map(len, self.plans))

    @overload
    def __getitem__(self, number: int) -> ShardTask: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardTask]: ...
    def __getitem__(self, number: int | slice) -> ShardTask | list[ShardTask]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        starts = [0, *accumulate(map(len, self.plans))]
        which = bisect_right(starts, number) - 1
        return ShardTask(
            source=self.source,
            split=self.splits[which],
            destination=self.destination,
            plan=self.plans[which][number - starts[which]],
            skip_bad=self.skip_bad,
        )


def run_pack(
    source: Source,
    out: str | PathLike[str] | WritableFolder | None,
    options: PackOptions,
    *,
    dry_run: bool = False,
    yes: bool = False,
    asks: bool = True,
    on_understanding: OnUnderstanding = lambda understanding: None,
    on_progress: Progress = lambda samples, size: None,
) -> PackReport:
    """Pack `source` into `out`. See `mps_shards.packing.pack`.

    Args:
        asks: whether to open some of the images and to refuse doubts; shard sets leave no doubts.
    """
    began = time.monotonic()
    destination = _destination(source.default_out if out is None else out, options.work)
    listing, rules = _listed(source, options)
    understanding = understand(source, listing, rules, skip_bad=options.read.skip_bad, looks=asks)
    on_understanding(understanding)
    if asks and not (yes or dry_run):
        refuse_doubts(understanding)
    plan, plans = _planned(source, listing, options, rules)
    held = None if dry_run or options.work.overwrite else destination.plan()
    if held and held.fingerprint == plan.fingerprint:
        plan = held
    elif source.is_comparable and not options.shards.drop_duplicates:
        plan = replace(plan, duplicates=find_duplicates(source, listing.splits, threads=options.work.threads)[0])
    report = partial(_report, destination, plan, began=began, understanding=understanding)
    if dry_run:
        return report(_sets_of(destination, plan), finished=False)
    tasks = Tasks(
        source=source,
        destination=destination,
        plans=plans,
        splits=[split.name for split in listing.splits],
        skip_bad=options.read.skip_bad,
    )
    may_be_packed = source.is_repeatable and not held and not options.work.overwrite
    if may_be_packed and is_packed_already(plan, tasks, on_progress, threads=options.work.threads):
        destination.leave()  # an earlier pack may have been killed after its last manifest
        return report(_sets_of(destination, plan), kept=len(tasks), already_packed=True)
    shared = options.work.executor == "array"
    with destination.occupied(plan, shared=shared, overwrite=options.work.overwrite) as occupied:
        tasks = replace(tasks, destination=occupied.anywhere())
        kept = _execute(tasks, options.work, on_progress)
        if shared:
            _refuse_changed_share(tasks, occupied, options.work)  # here: `commit_pack` has no source
            return report(_sets_of(occupied, plan), kept=kept, finished=False)
        sets, skipped = finish(occupied, plan, lambda made: refuse_changed(tasks, made, threads=options.work.threads))
    return report(sets, skipped=skipped, kept=kept)


def _refuse_changed_share(tasks: Tasks, occupied: Destination, work: WorkOptions) -> None:
    """Raise StorageError if a source of this task's own shards has changed while they were packed."""
    own = [tasks[number] for number in _numbers(tasks, work)]
    made = [occupied.finished(task.split, [task.plan.name]) for task in own]
    refuse_changed(own, made, threads=work.threads)


def _listed(source: Source, options: PackOptions) -> tuple[Listing, FieldRules]:
    """Return the listing, cut into the requested splits, and the rules for its samples."""
    if not source.is_repeatable and options.work.executor != "local":
        raise ConfigError(
            f"an iterator can be read only once, by this process, so executor must not be {options.work.executor!r}"
        )
    rules = rules_of(options)
    listing = source.listing(options.read)
    if options.shards.split is not None:
        listing = split_listing(listing, options.shards.split, seed=options.shards.seed)
    if options.shards.subset is not None:
        listing = subset_listing(listing, options.shards.subset, seed=options.shards.seed)
    if pair := alike(split.name for split in listing.splits):
        raise ConfigError(
            f"the splits {pair[0]!r} and {pair[1]!r} differ only in case or Unicode normal form, so some disks take "
            "their folders for one; rename one of them"
        )
    return settled(listing, rules)


def commit_pack(out: str | PathLike[str] | WritableFolder) -> PackReport:
    """Turn the shards that the tasks of an array job have made into sets. See `mps_shards.packing.commit`."""
    began = time.monotonic()
    destination = _destination(out, WorkOptions())
    plan = destination.plan()
    if plan is None:
        return _committed_before(destination, open_folder(out), began)
    with destination.occupied(plan) as occupied:
        sets, skipped = finish(occupied, plan)
    return _report(destination, plan, sets, began=began, skipped=skipped)


def _committed_before(destination: Destination, out: WritableFolder, began: float) -> PackReport:
    """Return a report of finished sets, whose last commit may have failed when only its own records were left."""
    manifests = {str(folder): open_set(folder).manifest for folder in set_folders(out)}
    if not manifests:
        raise ConfigError(f"{destination.where()} holds no unfinished pack; there is nothing to commit")
    destination.leave()
    sets = tuple(
        PackedSet(
            split="" if folder == str(out) else folder.rpartition("/")[2],
            folder=folder if out.path is None else Path(folder),
            task=manifest.task,
            samples=manifest.samples,
            shards=len(manifest.shards),
            bytes=manifest.bytes,
            classes={},
            fingerprint=manifest.fingerprint,
        )
        for folder, manifest in manifests.items()
    )
    first = next(iter(manifests.values()))
    return PackReport(
        source="a finished pack",
        out=destination.where(),
        layout=first.packed.layout,
        sets=sets,
        classes=first.classes,
        ignored={},
        empty=(),
        seconds=time.monotonic() - began,
        already_packed=True,
    )


def _destination(out: str | PathLike[str] | WritableFolder | None, work: WorkOptions) -> Destination:
    if out is None:
        raise ConfigError("name a destination for the shards: this source has no folder to put them beside")
    folder = open_folder(out)
    folder.check_writable()
    work_dir = Path(work.work_dir) if work.work_dir is not None else None
    if folder.path is None:
        return StoreDestination(folder, work_dir=work_dir)
    if work_dir is not None:
        raise ConfigError(f"work_dir needs a URL as destination; the shards of {folder} are made inside {folder}")
    return LocalDestination(folder.path)


def _planned(
    source: Source, listing: Listing, options: PackOptions, rules: FieldRules
) -> tuple[PackPlan, list[SetPlan]]:
    """Return the summary of the pack, and the shards of each set."""
    shards = options.shards
    duplicates = Duplicates()
    chosen: list[Numbers] | list[None] = [None] * len(listing.splits)
    if shards.drop_duplicates:
        duplicates, repeated = find_duplicates(source, listing.splits, threads=options.work.threads, dropped=True)
        chosen = without(listing.splits, repeated)
    plans = [
        plan_shards(
            split.entries,
            prefix=split.name or "shard",
            shard_bytes=parse_size(shards.shard_size),
            shard_samples=shards.shard_samples,
            shuffle_seed=shards.seed if shards.shuffle else None,
            keys=options.read.keys,
            rules=rules,
            chosen=numbers,
        )
        for split, numbers in zip(listing.splits, chosen, strict=True)
    ]
    return outline(source, listing, plans, options, rules, duplicates), plans


def _execute(tasks: Tasks, work: WorkOptions, on_progress: Progress) -> int:
    """Make the shards; return how many of them had been finished before."""
    try:
        return _executed(tasks, work, on_progress)
    except DataError as error:
        counted = count_bad_samples(tasks, error, threads=work.threads)
        if counted is error:
            raise
        raise counted from error
    except BaseException as error:
        if not tasks.source.is_repeatable:
            error.add_note("an iterator cannot be resumed: call pack with a new one")
        raise


def _executed(tasks: Tasks, work: WorkOptions, on_progress: Progress) -> int:
    numbers = _numbers(tasks, work)
    if work.executor == "ray":
        return run_ray(tasks, numbers, on_progress, address=work.ray_address)
    return run_local(tasks, numbers, on_progress, threads=work.threads)


def _numbers(tasks: Tasks, work: WorkOptions) -> range:
    """Return the numbers of the shards that this process has to make."""
    numbers = range(len(tasks))
    if work.task_index is None or work.num_tasks is None:
        return numbers
    return share(numbers, work.task_index, work.num_tasks)


def _sets_of(destination: Destination, plan: PackPlan) -> tuple[PackedSet, ...]:
    """Return the planned sets, for the report."""
    return tuple(
        PackedSet(
            split=each.split,
            folder=destination.where(each.split),
            task=each.task,
            samples=each.samples,
            shards=each.shards,
            bytes=each.bytes,
            classes=dict(zip(plan.classes, each.labels, strict=False)),
        )
        for each in plan.sets
    )


def _report(
    destination: Destination,
    plan: PackPlan,
    sets: tuple[PackedSet, ...],
    *,
    began: float,
    understanding: Understanding | None = None,
    skipped: tuple[Skipped, ...] = (),
    kept: int = 0,
    finished: bool = True,
    already_packed: bool = False,
) -> PackReport:
    return PackReport(
        source=plan.source,
        out=destination.where(),
        layout=plan.found,
        sets=sets,
        classes=plan.classes,
        ignored=plan.ignored,
        empty=plan.empty,
        skipped=skipped,
        duplicates=plan.duplicates,
        understanding=understanding,
        kept=kept,
        finished=finished,
        already_packed=already_packed,
        seconds=time.monotonic() - began,
    )
