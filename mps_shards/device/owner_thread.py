"""Restriction of MPS to one thread of a process at a time, and to processes that were not forked.

A second thread that uses MPS crashes the process on torch 2.14 (pytorch#197805), and Metal does not work in a forked
child. Both rules concern the complete process, so the owner is stored in a global variable.
"""

import os
import threading

from mps_shards.errors import ConfigError

__all__ = ["claim"]

_lock = threading.Lock()
_owners: dict[str, tuple[int, threading.Thread]] = {}


def claim(kind: str) -> None:
    """Make the current thread the only one that may use devices of a kind, such as "mps".

    Raises:
        ConfigError: another thread that is alive uses such devices, or this process was forked from one that used them.
    """
    current = threading.current_thread()
    with _lock:
        pid, owner = _owners.get(kind, (os.getpid(), current))
        if pid != os.getpid():
            raise ConfigError(
                f"this process was forked from one that used {kind}, and {kind} does not work after a fork; "
                "start processes with the spawn method, or use device='cpu' in them"
            )
        if owner is not current and owner.is_alive():
            raise ConfigError(
                f"thread {owner.name!r} already loads batches to {kind}, and a second thread ({current.name!r}) can "
                "crash the process (pytorch#197805); iterate in one thread"
            )
        _owners[kind] = pid, current
