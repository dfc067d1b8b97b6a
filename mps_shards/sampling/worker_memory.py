"""Memory that a process shares with its DataLoader workers, and with no other process."""

import ctypes
import multiprocessing.context
import os
import weakref
from multiprocessing.sharedctypes import RawValue
from typing import Any

from mps_shards.sampling.rank import dataloader_worker

__all__ = ["WorkerMemory"]


_alive: "weakref.WeakSet[WorkerMemory]" = weakref.WeakSet()


class WorkerMemory:
    """A ctypes structure that a process and its DataLoader workers read and write, whether these are forked or spawned.

    Any other process that inherits or unpickles it, such as each rank that ``torch.multiprocessing.spawn`` starts, gets
    a copy at first use, or before it forks workers of its own.

    Args:
        kind: type of the structure; all its bytes are 0 at first.
    """

    def __init__(self, kind: type[ctypes.Structure]):
        self._kind, self._owner = kind, os.getpid()
        self._shared: Any = RawValue(kind)
        _alive.add(self)

    def content(self) -> Any:
        """Return the structure, after copying it if this process must not share it."""
        if self._owner != os.getpid() and dataloader_worker() is None:
            self._copy(bytes(self._shared))
        return self._shared

    def _copy(self, content: bytes) -> None:
        self._owner = os.getpid()
        self._shared = RawValue(self._kind)
        ctypes.memmove(ctypes.addressof(self._shared), content, len(content))

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:  # a process that is spawned shares the memory
            return {"kind": self._kind, "shared": self.content(), "owner": self._owner}
        return {"kind": self._kind, "content": bytes(self.content())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._kind = state["kind"]
        if "shared" in state:
            self._shared, self._owner = state["shared"], state["owner"]
        else:
            self._copy(state["content"])
        _alive.add(self)


def _claim() -> None:
    for memory in list(_alive):
        memory.content()


# Every fork first makes the copies that are due: a forked rank may not have used the memory before it forks workers,
# and the workers could not tell that the memory belongs to another process.
os.register_at_fork(before=_claim)
