"""The adapter of this package's own transforms."""

from dataclasses import dataclass

from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.transforms.geometry import Planned

__all__ = ["OwnAdapter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAdapter:
    """Calls a transform of `classify` or `segment`, whose results need no checks."""

    apply: Apply
    planned: Planned | None

    def for_thread(self) -> Apply:
        """Return the transform itself, because it holds no state."""
        return self.apply
