"""Random bits that depend on a key alone, so that they are equal on every machine and in any order of calls.

Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Only its raw bits are
used, because NumPy keeps those stable but not the methods of `Generator` (NEP 19).
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError

__all__ = ["Stream", "bits", "check_seed", "permutation"]


class Stream(IntEnum):
    """Purposes of random bits. The random bits of different streams never overlap."""

    PACK = 1
    BLOCKS = 2
    WINDOW = 3
    MIX = 4
    AUGMENT = 5
    BUFFER = 6
    MIXUP = 7
    SPLIT = 8
    SUBSET = 9
    BALANCE = 10


def bits(stream: Stream, n: int, *, seed: int, epoch: int = 0, a: int = 0, b: int = 0) -> npt.NDArray[np.uint64]:
    """Return uint64 [n], random values for this key; `a` and `b` distinguish uses of the same stream."""
    generator = np.random.Philox(key=(epoch << 64) | seed, counter=(stream << 192) | (b << 128) | (a << 64))
    return np.atleast_1d(generator.random_raw(n))


def permutation(stream: Stream, n: int, *, seed: int, epoch: int = 0, a: int = 0, b: int = 0) -> npt.NDArray[np.intp]:
    """Return a random permutation of 0 … n-1 for this key, the same on every machine because sorting is stable."""
    return np.argsort(bits(stream, n, seed=seed, epoch=epoch, a=a, b=b), kind="stable")


def check_seed(seed: int, epoch: int = 0) -> None:
    """Raise ConfigError unless seed and epoch are whole numbers from 0 to 2**64 - 1."""
    for name, value in (("seed", seed), ("epoch", epoch)):
        if type(value) is not int or not 0 <= value < 1 << 64:
            raise ConfigError(f"{name} must be a whole number from 0 to 2**64 - 1, not {value!r}")
