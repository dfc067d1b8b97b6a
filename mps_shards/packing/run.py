"""The steps of a pack: list the source, plan the shards, make the shards, write index and manifest."""

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
from mps_shards.packing.duplicate_images import Numbers, find_duplicates, numbers_without
from mps_shards.packing.executors.local_threads import run_local
from mps_shards.packing.executors.ray_cluster import run_ray
from mps_shards.packing.finished_sets import finish
from mps_shards.packing.option_values import parse_size
from mps_shards.packing.outline import outline
from mps_shards.packing.pack_options import PackOptions, WorkOptions
from mps_shards.packing.pack_report import Duplicates, PackedSet, PackPlan, PackReport, Skipped
from mps_shards.packing.plan import SetPlan, plan_shards
from mps_shards.packing.sample_fields import FieldRules, rules_of, settle_classes
from mps_shards.packing.shard_writer import Progress, ShardTask
from mps_shards.packing.source_checks import count_bad_samples, is_packed_already, refuse_changed
from mps_shards.packing.sources.listing import Listing
from mps_shards.packing.sources.source import Source
from mps_shards.packing.splits import split_listing, subset_listing
from mps_shards.packing.understanding import Understanding, refuse_doubts, understand
from mps_shards.shards.name_folding import find_colliding_names
from mps_shards.shardset.opening import open_set, set_folders
from mps_shards.storage.folder import WritableFolder
from mps_shards.storage.location import open_folder

__all__ = ["OnUnderstanding", "commit_pack", "run_pack"]

OnUnderstanding = Callable[[Understanding], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks(Sequence[ShardTask]):
    """One task for each shard of all sets. Each task is built on access, to save memory."""

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
    """Pack an opened source into `out`, as `mps_shards.packing.pack` describes.

    Args:
        asks: whether to open some images and to refuse a source that leaves doubts; shard sets leave none.
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
        tasks = replace(tasks, destination=occupied.absolute())
        kept = _execute(tasks, options.work, on_progress)
        if shared:
            _refuse_changed_share(tasks, occupied, options.work)  # checked here because `commit_pack` has no source
            return report(_sets_of(occupied, plan), kept=kept, finished=False)
        sets, skipped = finish(occupied, plan, lambda made: refuse_changed(tasks, made, threads=options.work.threads))
    return report(sets, skipped=skipped, kept=kept)


def _refuse_changed_share(tasks: Tasks, occupied: Destination, work: WorkOptions) -> None:
    """Raise StorageError if a file of the source changed while this task packed its shards from it."""
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
    if pair := find_colliding_names(split.name for split in listing.splits):
        raise ConfigError(
            f"the splits {pair[0]!r} and {pair[1]!r} differ only in case or Unicode normal form, so some disks "
            "treat their folders as one; rename one of them"
        )
    return settle_classes(listing, rules)


def commit_pack(out: str | PathLike[str] | WritableFolder) -> PackReport:
    """Turn the shards that the tasks of an array job have made into sets, as `mps_shards.packing.commit` describes."""
    began = time.monotonic()
    destination = _destination(out, WorkOptions())
    plan = destination.plan()
    if plan is None:
        return _committed_before(destination, open_folder(out), began)
    with destination.occupied(plan) as occupied:
        sets, skipped = finish(occupied, plan)
    return _report(destination, plan, sets, began=began, skipped=skipped)


def _committed_before(destination: Destination, out: WritableFolder, began: float) -> PackReport:
    """Return a report of sets that are finished already, after removing records that an interrupted commit left."""
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
        raise ConfigError(
            "name a destination for the shards, because this source has no folder that they could be put beside"
        )
    folder = open_folder(out)
    folder.check_writable()
    work_dir = Path(work.work_dir) if work.work_dir is not None else None
    if folder.path is None:
        return StoreDestination(folder, work_dir=work_dir)
    if work_dir is not None:
        raise ConfigError(
            f"work_dir is only for a destination with a URL; shards for the folder {folder} are made inside it"
        )
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
        chosen = numbers_without(listing.splits, repeated)
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
    numbers = _numbers(tasks, work)
    try:
        if work.executor == "ray":
            return run_ray(tasks, numbers, on_progress, address=work.ray_address)
        return run_local(tasks, numbers, on_progress, threads=work.threads)
    except DataError as error:
        counted = count_bad_samples(tasks, error, threads=work.threads)
        if counted is error:
            raise
        raise counted from error
    except BaseException as error:
        if not tasks.source.is_repeatable:
            error.add_note("an iterator cannot be resumed: call pack with a new one")
        raise


def _numbers(tasks: Tasks, work: WorkOptions) -> range:
    """Return the numbers of the shards that this process has to make.

    The tasks of an array job do not communicate: each task lists the source, arrives at the same plan, and makes every
    `num_tasks`-th shard.
    """
    return range(len(tasks))[work.task_index or 0 :: work.num_tasks or 1]


def _sets_of(destination: Destination, plan: PackPlan) -> tuple[PackedSet, ...]:
    """Return the sets of a plan as the report shows them."""
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
