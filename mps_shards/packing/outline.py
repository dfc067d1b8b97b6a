"""The summary of a pack: which sets it makes, and the fingerprint that identifies an interrupted pack."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.pack_options import PackOptions
from mps_shards.packing.pack_report import NO_DUPLICATES, Duplicates, PackPlan, PlannedSet, Skipped, encodable
from mps_shards.packing.plan import SetPlan, packed_bytes
from mps_shards.packing.sample_fields import NO_RULES, FieldRules
from mps_shards.packing.sources.listing import Listing, Split
from mps_shards.packing.sources.source import Source
from mps_shards.shards.tar import END

__all__ = ["outline"]


def outline(
    source: Source,
    listing: Listing,
    plans: Sequence[SetPlan],
    options: PackOptions,
    rules: FieldRules = NO_RULES,
    duplicates: Duplicates = NO_DUPLICATES,
) -> PackPlan:
    """Summarise a pack as a `PackPlan`.

    Raises:
        ConfigError: no image is left in a split.
    """
    recorded = {**options.recorded(rules.palette_digest), **listing.recorded}
    if rules.id_map is not None:
        recorded["map_ids"] = rules.id_map.name
    seed = options.shards.seed if options.shards.shuffle else None
    return PackPlan(
        fingerprint=_fingerprint(listing, plans, seed, recorded),
        source=encodable(source.name),
        layout=listing.layout,
        found=listing.describe(),
        classes=listing.classes,
        ignore_index=listing.ignore_index,
        numbers=listing.numbers,
        colours=rules.palette.of_classes(len(listing.classes)) if rules.palette is not None else (),
        seed=seed,
        options=recorded,
        sets=tuple(_planned(split, plan, listing) for split, plan in zip(listing.splits, plans, strict=True)),
        ignored={encodable(name): count for name, count in listing.ignored.items()},
        empty=tuple(map(encodable, listing.empty)),
        passed_over=tuple(
            Skipped(path=encodable(bad.path), reason=encodable(bad.reason.replace(f"{source.name}/", "")))
            for bad in listing.bad
        ),
        duplicates=duplicates,
        is_resumable=source.is_repeatable,
    )


def _fingerprint(listing: Listing, plans: Sequence[SetPlan], seed: int | None, recorded: dict[str, Any]) -> str:
    """Return a SHA-256 over everything that affects a byte of the output, so without source location and executor.

    `on_bad_sample` is left out, because shards in which no sample was skipped are the same with either value.
    """
    content = (
        version("mps-shards"),
        listing.layout,
        listing.identity,
        listing.classes,
        listing.ignore_index,
        listing.numbers,
        seed,
        recorded,
        [(split.name, split.task, split.entries.digest()) for split in listing.splits],
        [hashlib.sha256(plan.order.astype("<i8").data).hexdigest() for plan in plans],
    )
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def _planned(split: Split, plan: SetPlan, listing: Listing) -> PlannedSet:
    if not len(plan.order):
        raise ConfigError(
            f"split {split.name!r} would be empty, as all its images repeat others; keep duplicates or remove the split"
        )
    labels = split.entries.labels[plan.order]
    counted = np.bincount(labels[labels >= 0], minlength=len(listing.classes)).tolist()
    size = int(packed_bytes(split.entries)[plan.order].sum()) + len(plan) * len(END)
    return PlannedSet(
        split=split.name,
        prefix=plan.prefix,
        task=split.task,
        samples=len(plan.order),
        shards=len(plan),
        bytes=size,
        labels=tuple(counted) if split.task == "classification" else (),
    )
