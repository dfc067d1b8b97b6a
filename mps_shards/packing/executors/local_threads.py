"""Packing on threads of this process; reading, hashing, decoding and encoding all release the GIL."""

from collections.abc import Iterable, Sequence

from mps_shards.packing.shard_writer import Progress, ShardTask, make_shard
from mps_shards.storage.ordered_map import ordered_map, worker_pool

__all__ = ["run_local"]


def run_local(tasks: Sequence[ShardTask], numbers: Iterable[int], on_progress: Progress, *, threads: int) -> int:
    """Make the shards of these task numbers, `threads` at a time; a failure stops the others at their next sample.

    Returns:
        How many of these shards had been finished before.
    """
    with worker_pool(threads, name="mps-shards-sample") as samples:
        shared = samples if threads > 1 else None
        made = ordered_map(
            lambda number: make_shard(tasks[number], on_progress, shared),
            numbers,
            workers=threads,
            name="mps-shards-pack",
        )
        return sum(made)
