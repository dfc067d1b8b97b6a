"""Random bits that depend on a key alone: the same on every machine, in every process, in any order of asking.

Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Only its raw bits are
used: NumPy keeps those stable for ever, but not what `Generator` makes of them (NEP 19).
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError

__all__ = ["Stream", "bits", "check_seed", "permutation"]


class Stream(IntEnum):
    """What the bits are for: streams of one seed never overlap."""

    PACK = 1
    BLOCKS = 2
    WINDOW = 3
    MIX = 4
    AUGMENT = 5
    BUFFER = 6
    MIXUP = 7
    SPLIT = 8


def bits(stream: Stream, n: int, *, seed: int, epoch: int = 0, a: int = 0, b: int = 0) -> npt.NDArray[np.uint64]:
    """`n` random uint64 for this key; `a` and `b` tell apart the places where a stream is used."""
    generator = np.random.Philox(key=(epoch << 64) | seed, counter=(stream << 192) | (b << 128) | (a << 64))
    return np.atleast_1d(generator.random_raw(n))


def permutation(stream: Stream, n: int, *, seed: int, epoch: int = 0, a: int = 0, b: int = 0) -> npt.NDArray[np.intp]:
    """A random order of 0 … n-1 for this key. Stable sorting settles the rare ties alike everywhere."""
    return np.argsort(bits(stream, n, seed=seed, epoch=epoch, a=a, b=b), kind="stable")


def check_seed(seed: int, epoch: int = 0) -> None:
    """Raise `ConfigError` unless both fit the key: whole numbers from 0 to 2**64 - 1."""
    for name, value in (("seed", seed), ("epoch", epoch)):
        if type(value) is not int or not 0 <= value < 1 << 64:
            raise ConfigError(f"{name} must be a whole number from 0 to 2**64 - 1, not {value!r}")
