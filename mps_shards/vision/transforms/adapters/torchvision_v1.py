"""The adapter of torchvision's v1 transforms and of timm's pipelines, which take a PIL image and no label map."""

import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as v1

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.transforms.keyed_draws import draws_elsewhere, keyed_draws
from mps_shards.vision.transforms.output_checks import checked_pair, is_label_map

__all__ = ["TorchvisionV1Adapter", "is_v1"]

# Transforms that change colours only, so that the label map still fits the image.
_COLOUR_ONLY = (
    v1.ColorJitter,
    v1.ConvertImageDtype,
    v1.GaussianBlur,
    v1.Grayscale,
    v1.Normalize,
    v1.PILToTensor,
    v1.RandomAdjustSharpness,
    v1.RandomAutocontrast,
    v1.RandomEqualize,
    v1.RandomGrayscale,
    v1.RandomInvert,
    v1.RandomPosterize,
    v1.RandomSolarize,
    v1.ToPILImage,
    v1.ToTensor,
)
_CONTAINERS = (v1.Compose, v1.RandomApply, v1.RandomChoice, v1.RandomOrder)


def is_v1(transform: Any) -> bool:
    """Whether a transform is one of torchvision's v1 transforms, or a Compose that contains one."""
    modules = ("torchvision.transforms.transforms", "torchvision.transforms.autoaugment")
    return any(base.__module__ in modules for base in type(transform).__mro__)


class TorchvisionV1Adapter:
    """Calls a v1 transform of torchvision; its random numbers depend on the sample alone, see `keyed_draws`."""

    planned = None

    def __init__(self, transform: Any):
        self._transform = transform
        self._moves = [step for step in _steps(transform) if not isinstance(step, _COLOUR_ONLY)]
        if held := [name for step in _steps(transform) for name in draws_elsewhere(step)]:
            warnings.warn(
                f"a transform holds random generators, {', '.join(held)}, whose numbers depend on the number of "
                "threads and on resuming",
                stacklevel=2,
            )

    def check_label_maps(self) -> None:
        """Raise `ConfigError` if the transform would move the image but not its label map."""
        if self._moves:
            names = ", ".join(sorted({type(step).__name__ for step in self._moves}))
            raise ConfigError(
                f"torchvision.transforms changes the image alone, so the label map would not fit it after {names}; use "
                "torchvision.transforms.v2, which changes both, or segment.train"
            )

    def for_thread(self) -> Apply:
        """Return a function that any thread may call, because the transforms hold no state."""

        def apply(image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            if is_label_map(target):
                self.check_label_maps()
            picture = Image.fromarray(image.numpy().transpose(1, 2, 0))
            with keyed_draws(rng):
                return checked_pair(self._transform(picture), target)

        return apply


def _steps(transform: Any) -> list[Any]:
    if not isinstance(transform, _CONTAINERS):
        return [transform]
    return [step for part in transform.transforms for step in _steps(part)]
