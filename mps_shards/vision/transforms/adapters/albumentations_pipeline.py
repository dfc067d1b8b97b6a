"""The adapter of albumentations, which takes arrays [height, width, channels] as `image` and label maps as `mask`."""

import copy
import random
from typing import Any

import numpy as np
import torch

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.transforms.output_checks import checked_pair, is_label_map

__all__ = ["AlbumentationsAdapter"]


class AlbumentationsAdapter:
    """Calls an albumentations transform or Compose. Its two generators are replaced by the generator of the sample."""

    planned = None

    def __init__(self, transform: Any):
        if not hasattr(transform, "set_random_state"):
            raise ConfigError("albumentations 2.0 or later is needed: earlier versions draw from global generators")
        self._transform = transform

    def for_thread(self) -> Apply:
        """Return a function for one thread, which uses a copy of the transform, because it holds its generators."""
        transform, python = copy.deepcopy(self._transform), _PythonDraws()

        def apply(image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            if python.rng is not rng:
                python.rng = rng
                transform.set_random_state(rng, python)
            python.gauss_next = None
            pixels = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
            if not is_label_map(target):
                return checked_pair(_tensor(transform(image=pixels)["image"]), target)
            result = transform(image=pixels, mask=_label_map_array(target))
            label_map = result["mask"]
            return checked_pair(
                _tensor(result["image"]),
                label_map if isinstance(label_map, torch.Tensor) else torch.from_numpy(_narrowed(label_map)),
            )

        return apply


class _PythonDraws(random.Random):
    """A `random.Random` that takes its numbers from a NumPy generator."""

    rng: np.random.Generator | None = None
    gauss_next: float | None

    def random(self) -> float:
        assert self.rng is not None
        return self.rng.random()

    def getrandbits(self, k: int, /) -> int:
        assert self.rng is not None
        return int.from_bytes(self.rng.bytes((k + 7) // 8), "little") >> -k % 8

    def seed(self, *_: Any, **__: Any) -> None:
        """Do nothing, because the sample has seeded the NumPy generator."""


def _tensor(image: Any) -> Any:
    """Return an image as a tensor [channels, height, width]; the result of ToTensorV2 is returned unchanged."""
    if not isinstance(image, np.ndarray):
        return image
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)) if image.ndim == 3 else image[None])


def _label_map_array(label_map: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a label map as an array that OpenCV can resize: uint8 or uint16, not int32."""
    array = label_map.numpy()
    return array if array.dtype == np.uint8 else array.astype(np.uint16)


def _narrowed(label_map: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(label_map if label_map.dtype == np.uint8 else label_map.astype(np.int32))
