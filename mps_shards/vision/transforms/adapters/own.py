"""The adapter of this package's transforms, bound to the set that they are used for."""

from dataclasses import dataclass

from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.views import Planned

__all__ = ["OwnAdapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAdapter:
    """A transform of `classify` or `segment`, whose output needs no check."""

    apply: Apply
    planned: Planned | None

    def for_thread(self) -> Apply:
        """Return the transform itself: it holds no state."""
        return self.apply
