"""Rounding of shares to whole numbers with an exact total."""

import numpy as np
import numpy.typing as npt

__all__ = ["apportioned"]


def apportioned(exact: npt.NDArray[np.floating], total: int) -> npt.NDArray[np.int64]:
    """Return the shares rounded down, or up for those with the largest remainders, so that they add up to `total`."""
    rounded: npt.NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = max(0, total - int(rounded.sum()))
    rounded[np.argsort(rounded - exact, kind="stable")[:missing]] += 1
    return rounded
