"""Shards made by threads of this process: reading, hashing, decoding and encoding all run beside Python's lock."""

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from mps_shards.packing.shard_writer import Progress, ShardTask, make_shard

__all__ = ["run_local"]


def run_local(tasks: Sequence[ShardTask], numbers: Iterable[int], on_progress: Progress, *, threads: int) -> int:
    """Make these shards, `threads` at a time; the first failure stops the others at their next sample.

    Returns:
        How many had been finished before.
    """
    failures: list[BaseException] = []  # in the order of time: what follows the first may be its consequence

    def heed() -> None:
        if failures:
            raise KeyboardInterrupt

    def advance(samples: int, size: int) -> None:
        heed()
        on_progress(samples, size)

    def make(number: int) -> bool:
        try:
            heed()
            return make_shard(tasks[number], advance, samples if threads > 1 else None)
        except BaseException as error:
            failures.append(error)
            raise

    with (
        ThreadPoolExecutor(threads, thread_name_prefix="mps-shards-sample") as samples,
        ThreadPoolExecutor(threads, thread_name_prefix="mps-shards-pack") as pool,
    ):
        try:
            made = [pool.submit(make, number) for number in numbers]
            wait(made, return_when=FIRST_EXCEPTION)
            if failures:
                raise failures[0]
            return sum(each.result() for each in made)
        except BaseException as error:
            failures.append(error)
            pool.shutdown(cancel_futures=True)
            raise
