"""The last step of a pack, which turns finished shards into sets: indexes, skipped images, then the manifests."""

from collections.abc import Callable
from importlib.metadata import version

import msgspec
import numpy as np

from mps_shards.errors import DataError, StorageError
from mps_shards.packing.destinations.destination import SKIPPED_NAME, Completion, Destination
from mps_shards.packing.pack_report import PackedSet, PackPlan, PlannedSet, Skipped
from mps_shards.packing.plan import shard_name
from mps_shards.shards.manifest import MANIFEST_NAME, Packed, SetDescription, ShardRecord
from mps_shards.shards.sample_index import ROW
from mps_shards.shards.sample_labels import LABEL_TYPE
from mps_shards.shardset.sealing import ShardContents, sealed

__all__ = ["finish"]

Check = Callable[[list[dict[str, Completion]]], None]


def finish(
    destination: Destination, plan: PackPlan, check: Check = lambda made: None
) -> tuple[tuple[PackedSet, ...], tuple[Skipped, ...]]:
    """Write index and manifest for the finished shards of each set, and remove the state of the pack.

    Args:
        check: called with the completion records before any index or manifest is written.

    Raises:
        StorageError: shards are missing, or a file cannot be written.
        DataError: a set would be empty.
    """
    made = [destination.finished(each.split, _names(each)) for each in plan.sets]
    _check_complete(destination, plan, made)
    check(made)
    unmade = (skip for shards in made for done in shards.values() for skip in done.skipped)
    skipped = sorted((*plan.passed_over, *unmade), key=lambda skip: skip.path)
    if skipped:
        lines = [msgspec.json.encode({"path": skip.path, "reason": skip.reason}) + b"\n" for skip in skipped]
        destination.put("", SKIPPED_NAME, b"".join(lines))
    sets = tuple(_finish_set(destination, plan, each, shards) for each, shards in zip(plan.sets, made, strict=True))
    destination.leave()
    return sets, tuple(skipped)


def _names(planned: PlannedSet) -> list[str]:
    return [shard_name(planned.prefix, number) for number in range(planned.shards)]


def _check_complete(destination: Destination, plan: PackPlan, made: list[dict[str, Completion]]) -> None:
    names = [name for planned in plan.sets for name in _names(planned)]
    missing = [name for name in names if not any(name in shards for shards in made)]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise StorageError(
            f"{destination.where()} lacks {len(missing)} of {len(names)} shards: {shown}; run their tasks again"
        )
    for planned, shards in zip(plan.sets, made, strict=True):
        if not any(done.samples for done in shards.values()):
            raise DataError(
                f"{destination.where(planned.split)} would be empty: all {planned.samples} images were skipped"
            )


def _finish_set(
    destination: Destination, plan: PackPlan, planned: PlannedSet, shards: dict[str, Completion]
) -> PackedSet:
    full = {name: done for name, done in shards.items() if done.samples}
    description = SetDescription(
        task=planned.task,
        classes=plan.classes if planned.task not in ("unlabeled", "regression", "captions") else (),
        ignore_index=plan.ignore_index if planned.task == "segmentation" else None,
        colours=plan.colours if planned.task == "segmentation" and plan.colours else msgspec.UNSET,
        columns=plan.numbers if planned.task == "regression" else msgspec.UNSET,
        packed=Packed(version=version("mps-shards"), layout=plan.layout, seed=plan.seed, options=plan.options),
    )
    manifest, files = sealed(description, [_contents(name, done) for name, done in full.items()])
    published = files.pop(MANIFEST_NAME)
    for name, content in files.items():
        destination.put(planned.split, name, content)
    destination.publish(planned.split, published)
    lost = [skip.label for done in shards.values() for skip in done.skipped]
    counts = {
        name: count - lost.count(label)
        for label, (name, count) in enumerate(zip(plan.classes, planned.labels, strict=False))
    }
    return PackedSet(
        split=planned.split,
        folder=destination.where(planned.split),
        task=planned.task,
        samples=manifest.samples,
        shards=len(full),
        bytes=manifest.bytes,
        classes=counts,
        rotated=sum(done.rotated for done in full.values()),
        tiled=sum(done.tiled for done in full.values()),
        fingerprint=manifest.fingerprint,
    )


def _contents(name: str, done: Completion) -> ShardContents:
    record = ShardRecord(name=name, samples=done.samples, bytes=done.size, sha256=done.sha256)
    return ShardContents(record, np.frombuffer(done.rows, ROW), np.frombuffer(done.labels, LABEL_TYPE))
