"""The adapter of torchvision.transforms.v2, whose transforms change image and label map together, as tv_tensors.

If a pipeline begins with a crop and a resize that depend on the size of the image alone, they become a `Planned` view.
The pixels equal those that torchvision computes for the same crop of the decoded uint8 image, but the JPEG need not be
decoded completely, and drawing the random numbers takes less time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from mps_shards.vision.transforms.adapters.adapter import Apply
from mps_shards.vision.transforms.geometry import Geometry, Planned
from mps_shards.vision.transforms.keyed_draws import keyed_draws
from mps_shards.vision.transforms.output_checks import checked_image, checked_pair, is_label_map
from mps_shards.vision.views import seen

__all__ = ["TorchvisionV2Adapter", "is_v2"]

_TO_TENSOR = (v2.ToImage, v2.PILToTensor, v2.Identity)  # transforms that do not change a tensor
# Transforms without random numbers that treat a tensor as an image; they need neither keyed draws nor tv_tensors.
_FIXED = (*_TO_TENSOR, v2.ToDtype, v2.Normalize, v2.ToPureTensor, v2.Resize, v2.CenterCrop, v2.Grayscale)


def is_v2(transform: Any) -> bool:
    """Whether a transform, or a Compose of transforms, is one of torchvision.transforms.v2."""
    return isinstance(transform, v2.Transform)


class TorchvisionV2Adapter:
    """Calls a transform of torchvision.transforms.v2; its random numbers depend on the sample alone."""

    def __init__(self, transform: v2.Transform):
        self._transform = transform
        self._wants_pil = any(isinstance(step, v2.ToTensor) for step in _steps(transform))
        self.planned: Planned | None = None if self._wants_pil else _planned(transform)

    def for_thread(self) -> Apply:
        """Return a function that any thread may call, because the transforms hold no state."""
        transform, planned = self._transform, self.planned

        def apply(image: torch.Tensor, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
            if planned is not None and not is_label_map(target):
                return planned(image, target, rng)
            given = Image.fromarray(image.numpy().transpose(1, 2, 0)) if self._wants_pil else tv_tensors.Image(image)
            with keyed_draws(rng):
                if is_label_map(target):
                    return checked_pair(*transform(given, tv_tensors.Mask(target)))
                return checked_pair(transform(given), target)

        return apply


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlannedPipeline:
    """A pipeline that begins with RandomResizedCrop, or Resize with an optional CenterCrop, and an optional flip.

    Attributes:
        geometry: crop, resize and flip at the beginning of the pipeline.
        interpolation: interpolation for resizing.
        rest: the remaining steps of the pipeline.
        pixel_table: result of these steps for each pixel value, see `Planned`.
    """

    geometry: Geometry
    interpolation: str
    rest: tuple[Callable[[Any], Any], ...]
    pixel_table: npt.NDArray[np.float32] | None

    def __call__(self, image: Any, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        """Apply the pipeline to an image uint8 [3, height, width]."""
        view = seen(image, self.geometry.plan(image.shape[-2], image.shape[-1], rng), self.interpolation)
        return self._finish(view, rng) if self.rest else view, target

    @property
    def after(self) -> Callable[[torch.Tensor, np.random.Generator], Any] | None:
        """Function that applies the steps after the view; None if there are none. See `Planned`."""
        return self._finish if self.rest else None

    def _finish(self, image: torch.Tensor, rng: np.random.Generator) -> Any:
        if all(type(step) in _FIXED for step in self.rest):
            return checked_image(_applied(image, self.rest))
        with keyed_draws(rng):
            return checked_image(_applied(tv_tensors.Image(image), self.rest))


def _applied(image: Any, steps: Sequence[Callable[[Any], Any]]) -> Any:
    for step in steps:
        if type(step) is v2.Normalize and isinstance(image, torch.Tensor):
            image = image.contiguous()  # Normalize takes a third of the time that it takes on channels-last memory
        image = step(image)
    return image


def _planned(transform: v2.Transform) -> Planned | None:
    """Return the pipeline as `Planned`; None unless its first steps depend on the size of the image alone."""
    steps = list(transform.transforms) if type(transform) is v2.Compose else [transform]
    area: Any = None
    crop: Any = None
    flip: float | None = None
    first = _pop(steps, v2.RandomResizedCrop, v2.Resize)
    if first is None or first.antialias is not True:
        return None
    interpolation = getattr(first.interpolation, "value", first.interpolation)  # a string since torchvision 0.29
    if interpolation not in ("bilinear", "bicubic", "nearest", "nearest-exact"):
        return None
    if isinstance(first, v2.RandomResizedCrop):
        area, resized = (tuple(first.scale), tuple(first.ratio)), tuple(first.size)
    elif first.max_size is not None or first.size is None:
        return None
    elif len(first.size) == 2:
        resized = tuple(first.size)
    else:
        (resized,) = first.size
        if (centre := _pop(steps, v2.CenterCrop)) is not None:
            crop = tuple(centre.size)
            if max(crop) > resized:
                return None  # CenterCrop pads an image that is smaller than the crop
    if (mirror := _pop(steps, v2.RandomHorizontalFlip)) is not None and mirror.p > 0:
        flip = mirror.p
    return _PlannedPipeline(
        geometry=Geometry(area=area, resized=resized, crop=crop, flip=flip),
        interpolation=interpolation,
        rest=(rest := tuple(step for step in steps if type(step) not in _TO_TENSOR)),
        pixel_table=_pixel_table(rest),
    )


def _pixel_table(rest: Sequence[Callable[[Any], Any]]) -> npt.NDArray[np.float32] | None:
    """Return the steps' result for each value of each channel, float32 [3, 256]; None unless the value decides it."""
    if not rest or not all(type(step) in (v2.ToDtype, v2.Normalize, v2.ToPureTensor) for step in rest):
        return None
    values = _applied(torch.arange(256, dtype=torch.uint8).repeat(3, 1, 1), rest)
    return values.reshape(3, 256).numpy() if values.dtype == torch.float32 else None


def _steps(transform: Any) -> list[Any]:
    """Return the transforms in a container and in its inner containers."""
    parts = getattr(transform, "transforms", None)
    return [transform] if parts is None else [step for part in parts for step in _steps(part)]


def _pop(steps: list[Any], *kinds: type) -> Any:
    """Remove and return the first step if its type is one of `kinds`; remove steps before it that change no tensor."""
    while steps and type(steps[0]) in _TO_TENSOR:
        del steps[0]
    return steps.pop(0) if steps and type(steps[0]) in kinds else None
