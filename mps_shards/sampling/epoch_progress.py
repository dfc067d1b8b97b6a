"""Where the next iteration begins, in memory that DataLoader workers share with the process that made them.

Workers hold copies of a data set, and persistent ones outlive an epoch: without this they would never hear of
`set_epoch`, and every new worker would start again from a resumed position in the next epoch.
"""

import multiprocessing.context
import os
from multiprocessing.sharedctypes import RawArray
from typing import Any

from mps_shards.errors import ConfigError
from mps_shards.sampling.cursor import Cursor
from mps_shards.sampling.rank import Place, torch_worker

__all__ = ["Progress", "ReadState"]

# Fields of the array. A generation is one call of set_epoch or load_state_dict. A kind of reader is _MAIN, or _MAIN + n
# for each of n workers: the kind that first used this generation's start, and the kind and start of the last iteration.
_EPOCH, _START, _GENERATION, _FIRST_KIND, _LAST_KIND, _LAST_START, _CONSUMED = range(7)
_NOBODY, _MAIN = 0, 1
_MAX_WORKERS = 1024
_LENGTH = _CONSUMED + 1 + _MAX_WORKERS


class Progress:
    """Epoch and start of the next iteration. A start is used once; after that, epochs begin at 0.

    Shared with the torch workers of the process that made it, and with nobody else: any other process that inherits or
    unpickles it, such as each rank that ``torch.multiprocessing.spawn`` starts, gets a copy of its own at first use.
    """

    def __init__(self, epoch: int):
        self._owner = os.getpid()
        self._shared: Any = RawArray("Q", _LENGTH)
        self._shared[_EPOCH] = epoch
        self._shared[_GENERATION] = 1

    @property
    def epoch(self) -> int:
        """Of the next iteration."""
        return int(self._fields()[_EPOCH])

    def move(self, epoch: int, start: int) -> None:
        """Let the next iteration of every reader begin there."""
        fields = self._fields()
        fields[_EPOCH], fields[_START] = epoch, start
        fields[_FIRST_KIND] = _NOBODY
        fields[_GENERATION] += 1

    def upcoming(self, place: Place, *, in_worker: bool) -> tuple[int, int]:
        """Epoch and start of an iteration that would begin now."""
        if place.workers > _MAX_WORKERS:
            raise ConfigError(f"{place.workers} DataLoader workers are more than the {_MAX_WORKERS} that can be served")
        fields = self._fields()
        kind, reader = _kind_and_reader(place, in_worker)
        # all workers of the set that used it first; none of a larger set that comes after it
        fresh = fields[_FIRST_KIND] in (_NOBODY, kind) and fields[reader] != fields[_GENERATION]
        return int(fields[_EPOCH]), int(fields[_START]) if fresh else 0

    def begin(self, place: Place, *, in_worker: bool) -> tuple[int, int]:
        """Epoch and start for an iteration that begins now, which uses the start up."""
        epoch, start = self.upcoming(place, in_worker=in_worker)
        fields = self._fields()
        kind, reader = _kind_and_reader(place, in_worker)
        if fields[_FIRST_KIND] == _NOBODY:
            fields[_FIRST_KIND] = kind
        fields[reader] = fields[_GENERATION]
        fields[_LAST_KIND], fields[_LAST_START] = kind, start
        return epoch, start

    def current_start(self) -> int:
        """Where the running iteration began; where none has begun since the last move, where the next one will."""
        fields = self._fields()
        return int(fields[_START if fields[_FIRST_KIND] == _NOBODY else _LAST_START])

    def in_workers(self) -> bool:
        """Whether torch workers made the last iteration since the last move."""
        fields = self._fields()
        return bool(fields[_FIRST_KIND] != _NOBODY and fields[_LAST_KIND] != _MAIN)

    def _fields(self) -> Any:
        if self._owner != os.getpid() and torch_worker() is None:
            self._copy(self._shared[: _CONSUMED + 1])
        return self._shared

    def _copy(self, values: list[int]) -> None:
        self._owner = os.getpid()
        self._shared = RawArray("Q", _LENGTH)
        self._shared[: len(values)] = values

    def __getstate__(self) -> dict[str, Any]:
        fields = self._fields()
        if multiprocessing.context.get_spawning_popen() is not None:
            return {"shared": fields, "owner": self._owner}  # a worker gets the very memory
        return {"values": fields[: _CONSUMED + 1]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "shared" in state:
            self._shared, self._owner = state["shared"], state["owner"]
        else:
            self._copy(state["values"])


def _kind_and_reader(place: Place, in_worker: bool) -> tuple[int, int]:
    return (_MAIN + place.workers, _CONSUMED + 1 + place.worker) if in_worker else (_MAIN, _CONSUMED)


class ReadState:
    """Where reading stands. Shared by a data set and those composed from it; a pickled copy goes its own way."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.live: Cursor | None = None  # after what the latest iteration handed out last
        self.own: Cursor | None = None  # where this torch worker alone goes on
        self.bad: Any = None  # account of what the last iteration left out
        self.moves = 0  # calls of set_epoch and load_state_dict; cursors from before the last of them are void
        self._iterations = 0

    def move(self, epoch: int, start: int) -> None:
        """See `Progress.move`; what was handed out so far is past."""
        self.progress.move(epoch, start)
        self.live = self.own = None
        self.moves += 1

    def move_worker(self, cursor: Cursor) -> None:
        """Let the next iteration of this torch worker, and of it alone, go on at a cursor."""
        self.live = self.own = cursor
        self.moves += 1

    def new_iteration(self) -> int:
        """The number of an iteration that was asked for. Until it begins, the state is that of its start."""
        self.live = None
        self._iterations += 1
        return self._iterations

    def moved(self, iteration: int, cursor: Cursor) -> None:
        """An iteration stands at a cursor. Only the latest one says where the data set stands."""
        if iteration == self._iterations:
            self.live = cursor

    def __getstate__(self) -> dict[str, Any]:
        return {"progress": self.progress}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["progress"])  # type: ignore[misc]  # a copy starts with a history of its own
