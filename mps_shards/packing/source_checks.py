"""Checks that compare a source with its shards: changed files, images that cannot be packed, finished packs."""

import time
import zlib
from collections.abc import Iterator, Sequence

from mps_shards.errors import DataError, ManifestError, ShardError, StorageError
from mps_shards.packing.destinations.destination import Completion
from mps_shards.packing.pack_report import PackPlan, PlannedSet, Skipped
from mps_shards.packing.plan import shard_name
from mps_shards.packing.shard_writer import Progress, ShardTask, content_of, sample_of
from mps_shards.shards.manifest import Manifest
from mps_shards.shards.sample_index import Rows
from mps_shards.shardset.opening import open_set
from mps_shards.storage.ordered_map import ordered_map

__all__ = ["count_bad_samples", "is_packed_already", "refuse_changed"]

_MOST_S = 20.0  # time for counting the other images that cannot be packed, after the first failure
_SHOWN = 3


def refuse_changed(tasks: Sequence[ShardTask], made: Sequence[dict[str, Completion]], *, threads: int) -> None:
    """Raise an error if a file of the source changed after it was packed.

    Raises:
        StorageError: an image, or a list that names the images, changed meanwhile; the error names the file.
    """
    if tasks and (path := tasks[0].source.changed_list()):
        raise StorageError(f"{path} changed while the images that it names were packed; pack again with --overwrite")
    finished = {name: done for shards in made for name, done in shards.items()}

    def first_changed(number: int) -> str:
        task = tasks[number]
        done = finished[task.plan.name]
        for place, entry in enumerate(task.plan.entries):
            if task.source.stamp(entry).digest != done.stamps[8 * place : 8 * place + 8]:
                return f"{task.source.name}/{entry.path}"
        return ""

    for path in ordered_map(first_changed, range(len(tasks)), workers=threads):
        if path:
            raise StorageError(
                f"{path}, or its mask, changed while it was packed; pack again when no other program changes it"
            )


def count_bad_samples(tasks: Sequence[ShardTask], error: DataError, *, threads: int) -> DataError:
    """Return the error that stopped a pack, with the number of other images that cannot be packed.

    Images are checked for at most 20 seconds, and nothing is written.
    """
    began = time.monotonic()

    def checked(number: int) -> tuple[int, list[str]]:
        count, bad = 0, []
        task = tasks[number]
        for entry in task.plan.entries:
            if time.monotonic() - began > _MOST_S:
                break
            count += 1
            if isinstance(found := sample_of(task, entry, skips=True), Skipped):
                bad.append(found.path)
        return count, bad

    total, paths = 0, []
    for count, bad in ordered_map(checked, range(len(tasks)), workers=threads):
        total += count
        paths += bad
    if not paths or (len(paths) == 1 and isinstance(error, ShardError)):  # of a set, which is resharded
        return error
    if len(paths) == 1:
        hint = "" if "--on-bad-sample" in str(error) else "; --on-bad-sample skip leaves it out"
        return DataError(f"{error}{hint}")
    planned = sum(len(task.plan.entries) for task in tasks) if total else 0
    among = "" if total == planned else f" among the {total:,} of {planned:,} that were checked"
    shown = ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else "")
    return DataError(
        f"{error}; {len(paths):,} images cannot be packed{among}: {shown}; --on-bad-sample skip leaves them out"
    )


def is_packed_already(plan: PackPlan, tasks: Sequence[ShardTask], on_progress: Progress, *, threads: int) -> bool:
    """Whether the destination holds finished sets of this plan whose samples equal those that would be packed now.

    The samples are made again, decoded only where that is necessary, and compared with the indexes.
    """
    destination = tasks[0].destination
    rows: dict[str, Rows] = {}
    for planned in plan.sets:
        try:
            stored = open_set(destination.set_folder(planned.split), whole=True)
        except (ManifestError, ShardError, StorageError):  # the set does not exist, or is damaged
            return False
        if not _fits_plan(plan, planned, stored.manifest):
            return False
        rows |= stored.rows

    def is_unchanged(number: int) -> bool:
        task = tasks[number]
        wanted = rows.get(task.plan.name)
        found = list(_checksums(task, on_progress))
        if wanted is None:
            return not found
        return found == list(zip(wanted["size"].tolist(), wanted["crc32"].tolist(), strict=True))

    return all(ordered_map(is_unchanged, range(len(tasks)), workers=threads))


def _checksums(task: ShardTask, on_progress: Progress) -> Iterator[tuple[int, int]]:
    for entry in task.plan.entries:
        content = content_of(task, entry)
        on_progress(1, len(content or b""))
        if content is not None:
            yield len(content), zlib.crc32(content)


def _fits_plan(plan: PackPlan, planned: PlannedSet, manifest: Manifest) -> bool:
    """Whether a manifest could be that of a planned set; the samples are not compared."""
    packed = manifest.packed
    names = {shard_name(planned.prefix, number) for number in range(planned.shards)}
    held = {record.name for record in manifest.shards}
    is_same_pack = (packed.layout, packed.seed, packed.options) == (plan.layout, plan.seed, plan.options)
    return is_same_pack and manifest.task == planned.task and held <= names and manifest.samples <= planned.samples
