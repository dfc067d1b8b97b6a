"""Where the next iteration begins, in memory that DataLoader workers share with the process that made them.

Workers hold copies of a data set, and persistent ones outlive an epoch: without this they would never hear of
`set_epoch`, and every new worker would start again from a resumed position in the next epoch.
"""

import multiprocessing.context
from multiprocessing.sharedctypes import RawArray
from typing import Any

from mps_shards.errors import ConfigError
from mps_shards.read.place import Place

__all__ = ["Progress"]

# Fields of the array; a generation is one call of set_epoch or load_state_dict.
_EPOCH, _START, _GENERATION, _USED_START, _USED_GENERATION, _CONSUMED = range(6)
_MAX_WORKERS = 1024


class Progress:
    """Epoch and start of the next iteration. A start is used once by each reader; after that, epochs begin at 0."""

    def __init__(self, epoch: int):
        self._shared: Any = RawArray("Q", _CONSUMED + 1 + _MAX_WORKERS)
        self._shared[_EPOCH] = epoch
        self._shared[_GENERATION] = 1

    @property
    def epoch(self) -> int:
        """Of the next iteration."""
        return int(self._shared[_EPOCH])

    def move(self, epoch: int, start: int) -> None:
        """Let the next iteration of every reader begin there."""
        self._shared[_EPOCH], self._shared[_START] = epoch, start
        self._shared[_GENERATION] += 1

    def begin(self, place: Place, *, in_worker: bool) -> tuple[int, int]:
        """Epoch and start for an iteration that begins now."""
        if place.workers > _MAX_WORKERS:
            raise ConfigError(f"{place.workers} DataLoader workers are more than the {_MAX_WORKERS} that can be served")
        reader = _CONSUMED + (place.worker + 1 if in_worker else 0)
        generation = self._shared[_GENERATION]
        start = 0 if self._shared[reader] == generation else self._shared[_START]
        self._shared[reader] = generation
        self._shared[_USED_START], self._shared[_USED_GENERATION] = start, generation
        return self.epoch, int(start)

    def current_start(self) -> int:
        """Where the running iteration began; where none has begun since the last move, where the next one will."""
        begun = self._shared[_USED_GENERATION] == self._shared[_GENERATION]
        return int(self._shared[_USED_START if begun else _START])

    def __getstate__(self) -> dict[str, Any]:
        if multiprocessing.context.get_spawning_popen() is not None:
            return {"shared": self._shared}  # a worker of ours: it gets the very memory
        return {"values": list(self._shared[: _CONSUMED + 1])}  # a copy, which goes its own way

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "shared" in state:
            self._shared = state["shared"]
        else:
            self._shared = RawArray("Q", _CONSUMED + 1 + _MAX_WORKERS)
            self._shared[: _CONSUMED + 1] = state["values"]
