"""The contract of adapters for transforms of other libraries."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from mps_shards.vision.views import Planned

__all__ = ["Adapter", "Apply"]

# (image uint8 [3, height, width], target, the generator of the sample) -> (image, target)
Apply: TypeAlias = Callable[[torch.Tensor, Any, np.random.Generator], tuple[Any, Any]]


class Adapter(Protocol):
    """A transform of some library, as reading applies it. It is pickled to DataLoader workers.

    Attributes:
        planned: the same transform, if its view follows from the size of the image alone and the target is not a label
            map; None for all others.
    """

    @property
    def planned(self) -> Planned | None:  # noqa: D102  # see the class
        ...

    def for_thread(self) -> Apply:
        """Return a function that one thread may call for its samples."""
        ...
