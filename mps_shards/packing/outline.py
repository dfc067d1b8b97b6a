"""A whole pack in short: what it will make, and the fingerprint by which an interrupted one is known again."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.packing.pack_options import PackOptions
from mps_shards.packing.pack_report import Duplicates, PackPlan, PlannedSet, Skipped, printable
from mps_shards.packing.plan import SetPlan, packed_bytes, parse_size
from mps_shards.packing.sources.listing import Listing, Split
from mps_shards.shards.tar import END

__all__ = ["outline"]


def outline(
    source: Path, listing: Listing, plans: Sequence[SetPlan], options: PackOptions, duplicates: Duplicates
) -> PackPlan:
    """The plan of a pack in short.

    Raises:
        ConfigError: no image of a split is left.
    """
    recorded: dict[str, Any] = {
        "shard_size": parse_size(options.shard_size),
        "shard_samples": options.shard_samples,
        "keys": options.keys,
        "drop_duplicates": options.drop_duplicates,
        "split": options.split,
        **options.fields.recorded(),
    }
    seed = options.seed if options.shuffle else None
    return PackPlan(
        fingerprint=_fingerprint(listing, plans, seed, recorded),
        source=printable(str(source)),
        layout=listing.layout,
        found=listing.describe(),
        classes=listing.classes,
        ignore_index=listing.ignore_index,
        seed=seed,
        options=recorded,
        sets=tuple(_planned(split, plan, listing) for split, plan in zip(listing.splits, plans, strict=True)),
        ignored={printable(name): count for name, count in listing.ignored.items()},
        empty=tuple(map(printable, listing.empty)),
        passed_over=tuple(
            Skipped(path=printable(bad.path), reason=printable(bad.reason.replace(f"{source}/", "")))
            for bad in listing.bad
        ),
        duplicates=duplicates,
    )


def _fingerprint(listing: Listing, plans: Sequence[SetPlan], seed: int | None, recorded: dict[str, Any]) -> str:
    """SHA-256 over everything that decides a byte of the output; not where the source lies, nor who does the work.

    What to do with bad samples is left out: shards that are finished without skipping any are right either way.
    """
    content = (
        version("mps-shards"),
        listing.layout,
        listing.classes,
        listing.ignore_index,
        seed,
        recorded,
        [(split.name, split.task, split.entries.digest()) for split in listing.splits],
        [hashlib.sha256(plan.order.astype("<i8").data).hexdigest() for plan in plans],
    )
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def _planned(split: Split, plan: SetPlan, listing: Listing) -> PlannedSet:
    if not len(plan.order):
        raise ConfigError(f"no image of split {split.name!r} is left, all repeat others; keep duplicates, or remove it")
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
