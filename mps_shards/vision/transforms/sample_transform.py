"""The transform of a data set: recognised once, then applied to each sample in each thread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from mps_shards.errors import ConfigError
from mps_shards.shards.manifest import Task
from mps_shards.vision.randomness import KeyedRandom
from mps_shards.vision.transforms import classify, segment
from mps_shards.vision.transforms.adapters.adapter import Adapter
from mps_shards.vision.transforms.adapters.albumentations_pipeline import AlbumentationsAdapter
from mps_shards.vision.transforms.adapters.callables import CallableAdapter
from mps_shards.vision.transforms.adapters.own import OwnAdapter
from mps_shards.vision.transforms.adapters.torchvision_v1 import TorchvisionV1Adapter, is_v1
from mps_shards.vision.transforms.adapters.torchvision_v2 import TorchvisionV2Adapter, is_v2
from mps_shards.vision.transforms.geometry import Geometry, Planned
from mps_shards.vision.views import View, seen_pixels

__all__ = ["PlannedView", "SampleTransform", "ThreadTransform", "Transform", "recognise"]

Transform: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTransform:
    """A recognised transform.

    Attributes:
        adapters: one adapter for each view; empty if images stay as they are.
        several: whether images are returned as a tuple, with one image for each view.
    """

    adapters: tuple[Adapter, ...] = ()
    several: bool = False

    @property
    def planned(self) -> tuple[Planned, ...]:
        """The `Planned` transforms of all views; empty unless every view has one."""
        views = tuple(adapter.planned for adapter in self.adapters if adapter.planned is not None)
        return views if len(views) == len(self.adapters) else ()

    @property
    def is_view(self) -> bool:
        """Whether the native kernel can make the result: one bilinearly resized view, or the unchanged image."""
        planned = self.planned
        return not self.several and (
            not self.adapters
            or (
                len(planned) == 1
                and (planned[0].after is None or planned[0].pixel_table is not None)
                and planned[0].interpolation == "bilinear"
            )
        )

    @property
    def pair(self) -> segment.train | segment.evaluate | None:
        """A single transform of `segment`, whose view of the image can be rendered without decoding all of it."""
        one = self.adapters[0] if len(self.adapters) == 1 and not self.several else None
        own = one.apply if isinstance(one, OwnAdapter) else None
        return own if isinstance(own, segment.train | segment.evaluate) else None

    @property
    def geometry(self) -> Geometry:
        """The geometry of a single view, see `Planned`; without a transform, the whole image."""
        return self.planned[0].geometry if self.planned else Geometry()

    @property
    def pixel_table(self) -> npt.NDArray[np.float32] | None:
        """The pixel table of a single view (see `Planned`); None if there are several views, or if it has no table."""
        planned = self.planned
        return planned[0].pixel_table if len(planned) == 1 else None


def recognise(
    transform: Transform | tuple[Transform, ...] | None,
    *,
    views: int = 1,
    task: Task | None,
    classes: int = 0,
    ignore_index: int | None = None,
) -> SampleTransform:
    """Return the adapters for a transform, which is recognised by its type and adjusted to the set.

    Args:
        transform: one of `classify` or `segment`, a transform of torchvision (v1 or v2) or albumentations, or a
            callable with the arguments (image), (image, target) or (image, target, rng); a tuple gives several views.
        views: how often each image is transformed.
        task: task of the set; None if it is not known before the first sample.
        classes: number of classes of the set; 0 if it is not known.
        ignore_index: label id of the set that is not a class.

    Raises:
        ConfigError: the transform has an unknown kind, or does not fit the task or the set.
    """
    if type(views) is not int or views < 1:
        raise ConfigError(f"views must be a whole number from 1, not {views!r}")
    if isinstance(transform, list):
        raise ConfigError(
            "transform is a list: Compose([…]) of torchvision applies transforms one after the other, and a tuple "
            "gives a view for each of its transforms"
        )
    several = isinstance(transform, tuple)
    if several and views > 1:
        raise ConfigError("give either views or a tuple of transforms, which gives a view for each of them")
    if transform is None:
        if views > 1:
            raise ConfigError("views needs a transform: without one, all views of an image would be equal")
        return SampleTransform()
    given = list(transform) if isinstance(transform, tuple) else [transform] * views
    if not given:
        raise ConfigError("transform is an empty tuple; leave it out to get images as they are")
    adapters = tuple(_adapter(each, task, classes, ignore_index) for each in given)
    return SampleTransform(adapters=adapters, several=several or views > 1)


def _adapter(transform: Any, task: Task | None, classes: int, ignore_index: int | None) -> Adapter:
    """Return the adapter of one transform for a set with this task, these classes and this ignore_index."""
    if type(transform) in (classify.train, classify.evaluate):
        if task == "segmentation":
            raise ConfigError("the set has label maps, which classify transforms would leave as they are: use segment")
        return OwnAdapter(apply=transform, planned=transform)
    if type(transform) in (segment.train, segment.evaluate):
        if task not in (None, "segmentation"):
            raise ConfigError(f"segment transforms need label maps, but this is a set for {task}: use classify")
        return OwnAdapter(apply=segment.padded_with(transform, ignore_index, classes), planned=None)
    if is_v2(transform):
        return TorchvisionV2Adapter(transform)
    if is_v1(transform):
        adapter = TorchvisionV1Adapter(transform)
        if task == "segmentation":
            adapter.check_label_maps()
        return adapter
    if any(base.__module__.split(".")[0] == "albumentations" for base in type(transform).__mro__):
        return AlbumentationsAdapter(transform)
    if callable(transform) and not isinstance(transform, type):
        return CallableAdapter(transform)
    hint = "; call it first, as in classify.train(224)" if isinstance(transform, type) else ""
    raise ConfigError(
        f"transform must be a transform such as classify.train(224), one of torchvision or albumentations, or a "
        f"function (image), (image, target) or (image, target, rng), not {transform!r}{hint}"
    )


class PlannedView(NamedTuple):
    """A view that was drawn for an image.

    Attributes:
        view: the view.
        bookmark: state of the random generator for the steps after the view; None if there are no such steps.
    """

    view: View
    bookmark: dict[str, Any] | None


class ThreadTransform:
    """Applies a transform in one thread, with the random numbers of each view of each sample.

    Attributes:
        plans: whether the views can be drawn from the size of an image alone, by `plan`.
    """

    def __init__(self, transform: SampleTransform, *, seed: int):
        self._random = KeyedRandom(seed=seed)
        self._views = [adapter.for_thread() for adapter in transform.adapters]
        self._planned, self._several = transform.planned, transform.several
        self._pair = transform.pair
        self._after = [planned.after for planned in self._planned]
        self.plans = bool(self._planned)

    def plan(self, size: tuple[int, int], epoch: int, position: int) -> list[PlannedView]:
        """Draw the views of the image at a position; `size` is its height and width."""
        plans = []
        for number, (planned, after) in enumerate(zip(self._planned, self._after, strict=True)):
            view = planned.geometry.plan(*size, self._random.at(epoch, position, number))
            plans.append(PlannedView(view, None if after is None else self._random.bookmark()))
        return plans

    def show(self, pixels: npt.NDArray[np.uint8], plans: list[PlannedView], factor: int = 1) -> Any:
        """Return the planned views of a decoded image, as a tuple if there are several.

        Args:
            pixels: uint8 [height, width, 3], the image decoded `factor` times smaller.
            plans: result of `plan` for this image.
        """
        images = []
        for (view, bookmark), planned, after in zip(plans, self._planned, self._after, strict=True):
            shown = view.shrunk(pixels.shape[0], pixels.shape[1], factor)
            image = seen_pixels(pixels, shown, planned.interpolation)
            if after is not None and bookmark is not None:
                image = after(image, self._random.back_at(bookmark))
            images.append(image)
        return tuple(images) if self._several else images[0]

    def plan_pair(self, size: tuple[int, int], epoch: int, position: int) -> tuple[View, np.random.Generator]:
        """Return the view for `SampleTransform.pair`, and the generator after this draw, which the next draw resets."""
        assert self._pair is not None
        rng = self._random.at(epoch, position)
        return self._pair.plan(*size, rng), rng

    def __call__(self, image: torch.Tensor, target: Any, epoch: int, position: int) -> tuple[Any, Any]:
        """Return the views of an image uint8 [3, height, width], as a tuple if there are several, and the target.

        Each view has its own label map, so several label maps are returned as a tuple, too.
        """
        if not self._views:
            return image, target
        made = [
            apply(image, target, self._random.at(epoch, position, number)) for number, apply in enumerate(self._views)
        ]
        if not self._several:
            return made[0]
        images, targets = zip(*made, strict=True)
        return images, targets if isinstance(target, torch.Tensor) and target.ndim == 2 else targets[0]
