"""Packing on the machines of a Ray cluster.

All machines must see the source, and an OUT that is a folder, under the same paths. If OUT is in a store, all machines
need its credentials.
"""

import contextlib
import logging
import signal
import socket
from collections.abc import Sequence
from itertools import islice
from typing import Any

from mps_shards.errors import ConfigError, StorageError
from mps_shards.packing.shard_writer import Progress, ShardTask, make_shard

__all__ = ["run_ray"]

_RETRIES = 5  # for a task whose machine is lost; a task that raises an error is not repeated
_AHEAD = 2  # tasks submitted per core: one runs, one waits
_CONNECT_TIMEOUT_S = 10.0


def run_ray(tasks: Sequence[ShardTask], numbers: Sequence[int], on_progress: Progress, *, address: str | None) -> int:
    """Make the shards of these task numbers on a cluster, one per core at a time; the first failure stops the others.

    Args:
        address: address of the cluster; None for the cluster that Ray finds, or a new one on this machine.

    Returns:
        How many of these shards had been finished before.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at this address.
        StorageError: a task failed on too many lost machines.
    """
    with _cluster(address) as ray:
        make = ray.remote(max_retries=_RETRIES)(_make)
        waiting = iter(numbers)
        running: list[Any] = []
        kept = 0
        try:
            while True:
                room = _AHEAD * int(ray.cluster_resources().get("CPU", 1)) - len(
                    running
                )  # the number of cores changes as machines come and go
                running += [make.remote(tasks[number]) for number in islice(waiting, max(0, room))]
                if not running:
                    return kept
                done, running = ray.wait(running)
                samples, size, before = ray.get(done[0])
                on_progress(samples, size)
                kept += before
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise StorageError(f"packing on the Ray cluster failed: {str(error).splitlines()[0]}") from error
        finally:
            for each in running:
                ray.cancel(each)


def _make(task: ShardTask) -> tuple[int, int, bool]:
    """Make a shard; return its samples, its bytes, and whether it had been finished before."""
    counts = [0, 0]

    def advance(samples: int, size: int) -> None:
        counts[0] += samples
        counts[1] += size

    kept = make_shard(task, advance)
    return counts[0], counts[1], kept


@contextlib.contextmanager
def _cluster(address: str | None) -> Any:
    """Connect to a cluster and yield the module `ray`. A connection that exists already is used and kept open."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("packing on Ray needs the package ray: pip install 'mps-shards[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_reachable(address)
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"there is no Ray cluster at {address or 'this machine'}: {error}") from error
    with contextlib.suppress(ValueError):  # only the main thread may set handlers, and Ray sets its own only there
        signal.signal(signal.SIGTERM, handler)  # Ray's handler prints a C++ traceback
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise `OSError` if nothing listens at the address; Ray itself would try to connect without end."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
