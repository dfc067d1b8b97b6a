"""The contract of adapters for transforms of other libraries."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from mps_shards.vision.transforms.geometry import Planned

__all__ = ["Adapter", "Apply"]

# (image uint8 [3, height, width], target, the generator of the sample) -> (image, target)
Apply: TypeAlias = Callable[[torch.Tensor, Any, np.random.Generator], tuple[Any, Any]]


class Adapter(Protocol):
    """Calls a transform of one library in the way of that library. Adapters are pickled for DataLoader workers.

    Attributes:
        planned: the same transform as `Planned`, for targets that are not label maps; None if the transform needs
            pixels to decide which part of the image it shows.
    """

    @property
    def planned(self) -> Planned | None:  # see the class
        ...

    def for_thread(self) -> Apply:
        """Return a function that one thread may call for its samples."""
        ...
