"""The cursor, which holds everything that resuming needs in a few hundred bytes of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from mps_shards.errors import ResumeMismatch

__all__ = ["Cursor", "check_resume"]

VERSION = 1
_END = 1 << 64  # end of the range of epochs and positions in `Progress` and in the keys of random numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A point in an epoch: all samples before `position` have been delivered, over all ranks.

    Attributes:
        epoch: number of the epoch.
        position: index of the next sample in the epoch's sequence.
        fingerprint: values that decide the sequence, by name: the set, seed, shuffle, remainder. Batch size and world
            size are not included, because they may change when resuming.
        worker: for the state of a single DataLoader worker, which torchdata's StatefulDataLoader requests: the number
            of the worker, the number of workers, and the number of samples of a batch over all ranks. `position` is
            then that of the worker's next batch. None for the state of a complete rank.
    """

    epoch: int
    position: int
    fingerprint: dict[str, Any]
    worker: tuple[int, int, int] | None = None

    def state(self) -> dict[str, Any]:
        """Return the cursor as plain values for ``json.dump`` or ``torch.save``."""
        return {"version": VERSION, **asdict(self), "worker": list(self.worker) if self.worker else None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Cursor":
        """Return the cursor of a result of `state`.

        Raises:
            ResumeMismatch: the state is not a cursor of this version.
        """
        try:
            if state["version"] != VERSION:
                raise ResumeMismatch(
                    f"the state has version {state['version']!r}, but this package reads version {VERSION}"
                )
            epoch, position = index(state["epoch"]), index(state["position"])
            if not (0 <= epoch < _END and 0 <= position < _END):
                raise ResumeMismatch(f"the state has epoch {epoch} and position {position}, which are out of range")
            worker = None
            if state.get("worker") is not None:
                number, workers, step = map(index, state["worker"])
                worker = number, workers, step
            fingerprint = {str(name): value for name, value in dict(state["fingerprint"]).items()}
            return cls(epoch=epoch, position=position, fingerprint=fingerprint, worker=worker)
        except (KeyError, TypeError, ValueError) as error:
            raise ResumeMismatch(f"this is not a state of a ShardDataset or DeviceLoader: {error!r}") from error


def check_resume(cursor: Cursor, fingerprint: Mapping[str, Any], *, samples: int | None, strict: bool) -> list[str]:
    """Return descriptions of the differences between a cursor and the data set that is to resume from it.

    Args:
        cursor: the cursor.
        fingerprint: fingerprint of the data set.
        samples: number of positions of an epoch; None if it is not known.
        strict: raise an error for any difference, instead of only for a position that the epoch does not have.

    Raises:
        ResumeMismatch: the cursor and the data set differ; the message names each difference with both values.
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
            "(load_state_dict(state, strict=False) resumes at the same position nevertheless)"
        )
    if samples is not None and cursor.position > samples:
        raise ResumeMismatch(f"the state is at position {cursor.position}, but this epoch has {samples} samples")
    return differences


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:18] + "…" + text[-18:]
