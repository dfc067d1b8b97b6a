"""Fuzz target: untrusted states for `load_state_dict`."""

import contextlib
import json
import warnings
from functools import cache

from mps_shards import ShardDataset
from mps_shards.errors import ShardsError
from tools.fuzz.examples import packed_set

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return states of a data set, complete and incomplete."""
    state = _dataset().state_dict()
    changed = [
        state,
        {**state, "epoch": 3, "position": 2},
        {**state, "worker": [0, 2, 2]},
        {**state, "fingerprint": [["seed", 1]]},
        {**state, "epoch": "1", "position": 1.5},
        {},
    ]
    return [json.dumps(one).encode() for one in changed]


def check(data: bytes) -> None:
    """Check that a state is refused, or that the next iteration begins at its position."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return
    dataset = _dataset()
    for strict in (True, False):
        with contextlib.suppress(ShardsError), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            dataset.load_state_dict(state, strict=strict)
            again = dataset.state_dict()
            assert (again["epoch"], again["position"]) == (state["epoch"], state["position"])
            next(iter(dataset), None)
        dataset.close()


@cache
def _dataset() -> ShardDataset:
    return ShardDataset(packed_set(), batch_size=2, shuffle=True)
