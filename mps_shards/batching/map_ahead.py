"""A plain function over many items on threads: results in the items' order, never more than a few ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

__all__ = ["mapped"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """``map(function, items)``, computed on threads ahead of need. Leaving early ends the threads.

    Holds at most four results a thread. An error is raised in its item's place.
    """
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="mps-shards-ahead") as pool:
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(source, 4 * threads))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
