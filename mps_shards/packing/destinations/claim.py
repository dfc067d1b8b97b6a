"""Checks of what a destination may hold when a pack begins, and the errors if it holds something else."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from mps_shards.errors import ConfigError, DataError
from mps_shards.packing.destinations.destination import MARKER, SKIPPED_NAME
from mps_shards.packing.pack_report import PackPlan
from mps_shards.shards.manifest import MANIFEST_NAME
from mps_shards.shards.sample_index import INDEX_NAME
from mps_shards.shards.sample_labels import LABELS_NAME

__all__ = ["check_claim", "check_overwritable", "find_unknown", "resume_hint"]

_WRITTEN = re.compile(rf"|{INDEX_NAME}|{LABELS_NAME}|{MANIFEST_NAME}|{SKIPPED_NAME}|[^/]+-\d{{6,}}\.tar|[^/]+\.part")


def check_claim(out: Path | str, names: Collection[str], held: PackPlan | None, plan: PackPlan) -> None:
    """Refuse a destination that holds anything but an unfinished pack by this plan.

    Args:
        names: relative paths of the files and folders in the destination, without ``.pack``; folders end with a slash.
        held: the plan in the destination, if any. Read it after the names: a pack may just begin.
    """
    if held and held.fingerprint != plan.fingerprint:
        raise ConfigError(
            f"{out} holds an unfinished pack by another plan ({_summary(held)}; this one: {_summary(plan)}): repeat "
            "its command to continue it, replace it with --overwrite, or name another place"
        )
    if not held and names:
        if any(re.fullmatch(rf"([^/]+/)?{MANIFEST_NAME}", name) for name in names):
            raise ConfigError(
                f"{out} holds a finished pack; replace it with --overwrite (overwrite=True), or name another place"
            )
        raise ConfigError(f"{out} is not empty; remove it or name another place")


def check_overwritable(out: Path | str, names: Iterable[str]) -> None:
    """Refuse a destination that holds a file that no pack wrote."""
    if unknown := find_unknown(names):
        raise ConfigError(
            f"{out}/{unknown} was not written by a pack, so it is not overwritten; remove it or pack elsewhere"
        )


def find_unknown(names: Iterable[str]) -> str | None:
    """Return one of these paths that was not written by a pack; None if all were."""
    folders: dict[str, set[str]] = defaultdict(set)
    for path in names:
        folder, slash, name = path.partition("/")
        folders[folder + slash if slash else ""].add(name if slash else path)
    for folder, held in sorted(folders.items()):
        unknown = {name for name in held if not _WRITTEN.fullmatch(name)}
        if not held & {MANIFEST_NAME, MARKER}:  # a pack writes tars only beside a manifest or a marker
            unknown |= {name for name in held if name.endswith(".tar")}
        if unknown:
            return folder + min(unknown)
    return None


def resume_hint(out: Path | str, finished: int, error: BaseException) -> str:
    """Return a note on how to continue, for the error of a pack that failed after some shards were finished."""
    kept = f"{finished:,} finished shard{'s are' if finished > 1 else ' is'} kept in {out}"
    if isinstance(error, DataError):  # the same command would fail again, and a repaired file makes another plan
        return f"{kept}; continue with --on-bad-sample skip, or repair the file and pack with --overwrite"
    return f"{kept}; run the same command again to continue"


def _summary(plan: PackPlan) -> str:
    samples, shards = sum(each.samples for each in plan.sets), sum(each.shards for each in plan.sets)
    return f"{samples:,} images in {shards:,} shards, plan {plan.fingerprint[:8]}"
