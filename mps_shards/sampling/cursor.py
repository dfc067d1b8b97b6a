"""A cursor: all that resuming needs, in a few hundred bytes of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from mps_shards.errors import ResumeMismatch

__all__ = ["Cursor", "check_resume"]

VERSION = 1
_END = 1 << 64  # what `Progress` and the keys of random numbers can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where reading stands: every position before `position` of this epoch was delivered, over all ranks.

    Attributes:
        fingerprint: what the sequence depends on, by name: the set, seed, shuffle, remainder. Not the batch size nor
            the world size: a cursor may be resumed with others.
        worker: (worker, workers, samples of a step over all ranks) where a torch worker's own progress is meant, as
            torchdata's StatefulDataLoader asks for: its own next batch is at `position`. None for the whole place.
    """

    epoch: int
    position: int
    fingerprint: dict[str, Any]
    worker: tuple[int, int, int] | None = None

    def state(self) -> dict[str, Any]:
        """Plain values for ``json.dump`` or ``torch.save``."""
        return {"version": VERSION, **asdict(self), "worker": list(self.worker) if self.worker else None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Cursor":
        """The cursor that `state` was made from.

        Raises:
            ResumeMismatch: it is no cursor of this version.
        """
        try:
            if state["version"] != VERSION:
                raise ResumeMismatch(f"the cursor has version {state['version']!r}, this package reads {VERSION}")
            epoch, position = index(state["epoch"]), index(state["position"])
            if not (0 <= epoch < _END and 0 <= position < _END):
                raise ResumeMismatch(f"the cursor names epoch {epoch}, position {position}")
            worker = None
            if state.get("worker") is not None:
                number, workers, step = map(index, state["worker"])
                worker = number, workers, step
            fingerprint = {str(name): value for name, value in dict(state["fingerprint"]).items()}
            return cls(epoch=epoch, position=position, fingerprint=fingerprint, worker=worker)
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeMismatch(f"this is no state of a ShardDataset or DeviceLoader: {error!r}") from error


def check_resume(cursor: Cursor, fingerprint: Mapping[str, Any], *, samples: int | None, strict: bool) -> list[str]:
    """Differences between a cursor and the data set that is to resume from it.

    Args:
        samples: positions of an epoch, where known.
        strict: any difference is an error; else only a position that the epoch does not have.

    Raises:
        ResumeMismatch: naming what differs, with both values.
    """
    names = sorted({*cursor.fingerprint, *fingerprint})
    differences = [
        f"{name} was {_short(cursor.fingerprint.get(name))} and is {_short(fingerprint.get(name))}"
        for name in names
        if cursor.fingerprint.get(name) != fingerprint.get(name)
    ]
    if differences and strict:
        raise ResumeMismatch(
            f"the cursor belongs to another sequence: {'; '.join(differences)} "
            "(load_state_dict(state, strict=False) resumes at its position all the same)"
        )
    if samples is not None and cursor.position > samples:
        raise ResumeMismatch(f"the cursor is at position {cursor.position}, this epoch has {samples}")
    return differences


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:18] + "…" + text[-18:]
