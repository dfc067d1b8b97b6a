"""Run a pack: list, plan, have the shards made, and make sets of them."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import overload

from mps_shards.errors import ConfigError
from mps_shards.packing.destinations.destination import Workplace
from mps_shards.packing.destinations.local_folder import LocalWorkplace
from mps_shards.packing.destinations.object_store_folder import StoreWorkplace
from mps_shards.packing.duplicate_images import Numbers, find_duplicates, without
from mps_shards.packing.executors.array_job import share
from mps_shards.packing.executors.local_threads import run_local
from mps_shards.packing.executors.ray_cluster import run_ray
from mps_shards.packing.outline import outline
from mps_shards.packing.pack_options import OnBadSample, PackOptions
from mps_shards.packing.pack_report import Duplicates, PackedSet, PackPlan, PackReport, Skipped
from mps_shards.packing.plan import SetPlan, parse_size, plan_shards
from mps_shards.packing.sample_fields import settled
from mps_shards.packing.sealing import finish
from mps_shards.packing.shard_writer import Progress, ShardTask
from mps_shards.packing.sources.detection import list_source, source_folder
from mps_shards.packing.sources.listing import Listing
from mps_shards.packing.splits import split_listing
from mps_shards.storage.store_folder import StoreFolder
from mps_shards.storage.urls import Prefix

__all__ = ["commit_pack", "run_pack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks(Sequence[ShardTask]):
    """The shards of all sets, as tasks that are only put together when they are asked for."""

    source: Path
    place: Workplace
    plans: Sequence[SetPlan]
    splits: Sequence[str]
    on_bad_sample: OnBadSample

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
            place=self.place,
            plan=self.plans[which][number - starts[which]],
            on_bad_sample=self.on_bad_sample,
        )


def run_pack(
    source: Path,
    out: Path | Prefix,
    options: PackOptions,
    *,
    dry_run: bool = False,
    on_listing: Callable[[Listing], None] = lambda listing: None,
    on_progress: Progress = lambda samples, size: None,
) -> PackReport:
    """Pack `source` into `out`. See `mps_shards.packing`."""
    began = time.monotonic()
    workplace = _workplace(out, options.work_dir)
    listing = list_source(
        source, layout=options.layout, by_name=options.keys == "name", skip_bad=options.on_bad_sample == "skip"
    )
    source = source_folder(source)
    if options.split is not None:
        listing = split_listing(listing, options.split, seed=options.seed)
    listing, fields = settled(listing, options.fields)
    options = replace(options, fields=fields)
    on_listing(listing)
    plan, plans = _planned(source, listing, options)
    held = None if dry_run or options.overwrite else workplace.plan()
    if held and held.fingerprint == plan.fingerprint:
        plan = held
    elif not options.drop_duplicates:
        plan = replace(plan, duplicates=find_duplicates(source, listing.splits, threads=options.threads)[0])
    if dry_run:
        return _report(workplace, plan, _sets_of(workplace, plan), began, finished=False)
    shared = options.distributor == "array"
    with workplace.occupied(plan, shared=shared, overwrite=options.overwrite) as place:
        tasks = Tasks(
            source=source.absolute(),  # tasks may be done in other folders than this one
            place=place.anywhere(),
            plans=plans,
            splits=[split.name for split in listing.splits],
            on_bad_sample=options.on_bad_sample,
        )
        kept = _distribute(tasks, options, on_progress)
        if shared:
            return _report(place, plan, _sets_of(place, plan), began, kept=kept, finished=False)
        sets, skipped = finish(place, plan)
    return _report(workplace, plan, sets, began, skipped=skipped, kept=kept)


def commit_pack(out: Path | Prefix) -> PackReport:
    """Make sets of the shards that the tasks of an array have made. See `mps_shards.packing.commit`."""
    began = time.monotonic()
    workplace = _workplace(out)
    plan = workplace.plan()
    if plan is None:
        raise ConfigError(f"{out} holds no unfinished pack; there is nothing to commit")
    with workplace.occupied(plan) as place:
        sets, skipped = finish(place, plan)
    return _report(workplace, plan, sets, began, skipped=skipped)


def _workplace(out: Path | Prefix, work_dir: Path | None = None) -> Workplace:
    if isinstance(out, Prefix):
        return StoreWorkplace(StoreFolder(out), work_dir=work_dir)
    if work_dir is not None:
        raise ConfigError(f"a work folder goes with a URL; for {out}, shards are made in there")
    return LocalWorkplace(out)


def _planned(source: Path, listing: Listing, options: PackOptions) -> tuple[PackPlan, list[SetPlan]]:
    """The pack in short, and the shards of each set."""
    duplicates = Duplicates()
    chosen: list[Numbers] | list[None] = [None] * len(listing.splits)
    if options.drop_duplicates:
        duplicates, repeated = find_duplicates(source, listing.splits, threads=options.threads, dropped=True)
        chosen = without(listing.splits, repeated)
    plans = [
        plan_shards(
            split.entries,
            prefix=split.name or "shard",
            shard_bytes=parse_size(options.shard_size),
            shard_samples=options.shard_samples,
            shuffle_seed=options.seed if options.shuffle else None,
            keys=options.keys,
            fields=options.fields,
            chosen=numbers,
        )
        for split, numbers in zip(listing.splits, chosen, strict=True)
    ]
    return outline(source, listing, plans, options, duplicates), plans


def _distribute(tasks: Tasks, options: PackOptions, on_progress: Progress) -> int:
    numbers = range(len(tasks))
    if options.distributor == "ray":
        return run_ray(tasks, numbers, on_progress, address=options.ray_address)
    if options.task_index is not None and options.num_tasks is not None:
        numbers = share(numbers, options.task_index, options.num_tasks)
    return run_local(tasks, numbers, on_progress, threads=options.threads)


def _sets_of(workplace: Workplace, plan: PackPlan) -> tuple[PackedSet, ...]:
    """The sets as they are planned."""
    return tuple(
        PackedSet(
            split=each.split,
            folder=workplace.where(each.split),
            task=each.task,
            samples=each.samples,
            shards=each.shards,
            bytes=each.bytes,
            classes=dict(zip(plan.classes, each.labels, strict=False)),
        )
        for each in plan.sets
    )


def _report(
    workplace: Workplace,
    plan: PackPlan,
    sets: tuple[PackedSet, ...],
    began: float,
    *,
    skipped: tuple[Skipped, ...] = (),
    kept: int = 0,
    finished: bool = True,
) -> PackReport:
    return PackReport(
        source=Path(plan.source),
        out=workplace.where(),
        layout=plan.found,
        sets=sets,
        classes=plan.classes,
        ignored=plan.ignored,
        empty=plan.empty,
        skipped=skipped,
        duplicates=plan.duplicates,
        kept=kept,
        finished=finished,
        seconds=time.monotonic() - began,
    )
