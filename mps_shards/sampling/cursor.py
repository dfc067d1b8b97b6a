"""The cursor: everything that resuming needs, in a few hundred bytes of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from mps_shards.errors import ResumeMismatch

__all__ = ["Cursor", "check_resume"]

VERSION = 1
_END = 1 << 64  # limit of the integers in `Progress` and in the keys of random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A point in an epoch: every position before `position` was delivered, over all ranks.

    Attributes:
        fingerprint: Values that decide the sequence, by name: the set, seed, shuffle, remainder. Batch size and world
            size are not included: a cursor may be resumed with others.
        worker: (worker, number of workers, samples of a step over all ranks) for the state of a single DataLoader
            worker, which torchdata's StatefulDataLoader requests. That worker's next batch is at `position`. None for
            the state of a whole rank.
    """

    epoch: int
    position: int
    fingerprint: dict[str, Any]
    worker: tuple[int, int, int] | None = None

    def state(self) -> dict[str, Any]:
        """Return plain values for ``json.dump`` or ``torch.save``."""
        return {"version": VERSION, **asdict(self), "worker": list(self.worker) if self.worker else None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Cursor":
        """Return the cursor that `state` was made from.

        Raises:
            ResumeMismatch: The state is not a cursor of this version.
        """
        try:
            if state["version"] != VERSION:
                raise ResumeMismatch(
                    f"the state has version {state['version']!r}, but this package reads version {VERSION}"
                )
            epoch, position = index(state["epoch"]), index(state["position"])
            if not (0 <= epoch < _END and 0 <= position < _END):
                raise ResumeMismatch(f"the state names epoch {epoch}, position {position}, which is out of range")
            worker = None
            if state.get("worker") is not None:
                number, workers, step = map(index, state["worker"])
                worker = number, workers, step
            fingerprint = {str(name): value for name, value in dict(state["fingerprint"]).items()}
            return cls(epoch=epoch, position=position, fingerprint=fingerprint, worker=worker)
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeMismatch(f"this is not a state of a ShardDataset or DeviceLoader: {error!r}") from error


def check_resume(cursor: Cursor, fingerprint: Mapping[str, Any], *, samples: int | None, strict: bool) -> list[str]:
    """List the differences between a cursor and the data set that is to resume from it.

    Args:
        samples: Number of positions of an epoch, if known.
        strict: Raise an error for any difference, instead of only for a position that the epoch does not have.

    Raises:
        ResumeMismatch: The cursor and the data set differ; the message names each difference with both values.
    """
    names = sorted({*cursor.fingerprint, *fingerprint})
    differences = [
        f"{name} was {_short(cursor.fingerprint.get(name))} and is {_short(fingerprint.get(name))}"
        for name in names
        if cursor.fingerprint.get(name) != fingerprint.get(name)
    ]
    if differences and strict:
        raise ResumeMismatch(
            f"the state belongs to another sequence: {'; '.join(differences)} "
            "(load_state_dict(state, strict=False) resumes at its position all the same)"
        )
    if samples is not None and cursor.position > samples:
        raise ResumeMismatch(f"the state is at position {cursor.position}, but this epoch has {samples} samples")
    return differences


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:18] + "…" + text[-18:]
