"""Which thread of the process may use MPS: one at a time, and none after a fork.

A second thread crashes the process on torch 2.14 (pytorch#197805); Metal does not work in a forked child. Being about
the process, this is remembered for the process.
"""

import os
import threading

from mps_shards.errors import ConfigError

__all__ = ["claim"]

_lock = threading.Lock()
_owners: dict[str, tuple[int, threading.Thread]] = {}


def claim(kind: str) -> None:
    """Make the current thread the one that uses devices of this kind.

    Raises:
        ConfigError: another thread that is still alive does, or the process was forked from one that did.
    """
    current = threading.current_thread()
    with _lock:
        pid, owner = _owners.get(kind, (os.getpid(), current))
        if pid != os.getpid():
            raise ConfigError(
                f"this process was forked from one that used {kind}, which does not survive that; "
                "start workers with the spawn method, or use device='cpu' here"
            )
        if owner is not current and owner.is_alive():
            raise ConfigError(
                f"thread {owner.name!r} already loads to {kind}, and a second one ({current.name!r}) can crash the "
                "process (pytorch#197805); iterate in one thread"
            )
        _owners[kind] = pid, current
