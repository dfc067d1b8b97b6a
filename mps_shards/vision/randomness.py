"""Random numbers for a transform, which depend on seed, epoch, position and view only.

So they are the same in every thread, on every rank and after resuming.
"""

from typing import Any

import numpy as np

from mps_shards.shards.keyed import Stream

__all__ = ["KeyedRandom"]


class KeyedRandom:
    """A generator that is moved to the random numbers of each sample. Each thread needs an object of its own.

    One generator is reused, because moving it takes 1.5 us, while making a new `numpy.random.Generator` takes 14 us.
    """

    def __init__(self, *, seed: int):
        self._bits = np.random.Philox(key=seed, counter=0)
        self._generator = np.random.Generator(self._bits)
        self._seed = seed
        self._state = self._bits.state

    def at(self, epoch: int, position: int, view: int = 0) -> np.random.Generator:
        """Return the generator at the first random number of a view of a sample; valid until the next call."""
        inner = self._state["state"]
        inner["key"] = np.array([self._seed, epoch], dtype=np.uint64)
        inner["counter"] = np.array([0, position, view, Stream.AUGMENT], dtype=np.uint64)
        self._state["buffer_pos"] = 4  # nothing is buffered
        self._state["has_uint32"] = 0
        self._bits.state = self._state
        return self._generator

    def bookmark(self) -> dict[str, Any]:
        """Return the state of the generator, for `back_at`."""
        return dict(self._bits.state)

    def back_at(self, bookmark: dict[str, Any]) -> np.random.Generator:
        """Return the generator in the state of a bookmark; valid until the next call of any method."""
        self._bits.state = bookmark  # type: ignore[assignment]  # NumPy's stubs name the keys
        return self._generator
