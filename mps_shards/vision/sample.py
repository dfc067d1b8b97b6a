"""A raw sample -> an image and its target, as the set's task asks for."""

from typing import Any

import numpy as np
import torch

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.manifest import Task
from mps_shards.shards.sample import MASK_FIELD, RawSample
from mps_shards.vision.decode import decode_image, decode_mask, image_size
from mps_shards.vision.view import Planned, View

__all__ = ["class_of", "image_and_target", "planned_image_and_target"]


def planned_image_and_target(
    raw: RawSample, transform: Planned, rng: np.random.Generator, *, task: Task | None, classes: int
) -> tuple[torch.Tensor, int, View]:
    """As `image_and_target`, decoded no larger than what the transform shows needs; and what that is.

    Raises:
        ConfigError: the set has masks, which are not planned for.
    """
    if task == "segmentation":
        raise ConfigError("decode='scaled' serves classification; leave it out for sets with masks")
    _, content = raw.image()
    size = image_size(content)
    factor = 1
    if size is not None:
        view = transform.plan(*size, rng)
        factor = view.factor()
    image = torch.from_numpy(decode_image(content, factor=factor)).permute(2, 0, 1)
    if size is None:
        view = transform.plan(image.shape[1], image.shape[2], rng)
    target = class_of(raw, task=task, classes=classes)
    return image, target, view.shrunk(image.shape[1], image.shape[2], factor)


def image_and_target(raw: RawSample, *, task: Task | None, classes: int) -> tuple[torch.Tensor, Any]:
    """Image uint8 (3, height, width), a view of channels-last memory; and label or mask.

    Args:
        task: "classification" gives the class number, "segmentation" a mask uint8 or int32 (height, width), and
            "unlabeled" -1.
        classes: how many the set has; 0 where that is not known.

    Raises:
        DecodeError: image or target is missing, malformed, no class of the set, or of another size than the other.
    """
    _, content = raw.image()
    image = torch.from_numpy(decode_image(content)).permute(2, 0, 1)
    if task == "segmentation":
        return image, _mask(raw, image.shape[1:])
    return image, class_of(raw, task=task, classes=classes)


def class_of(raw: RawSample, *, task: Task | None, classes: int) -> int:
    """The class number, or -1 in an unlabelled set. Raises as `image_and_target` does."""
    label = raw.label()
    if (label < 0) != (task == "unlabeled"):
        found = "no label, the set has labels" if label < 0 else "a label, the set has none"
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has {found}")
    if classes and label >= classes:
        raise DecodeError(f"label {label} of sample {raw.key!r} is no class: the set has {classes}")
    return label


def _mask(raw: RawSample, size: torch.Size) -> torch.Tensor:
    content = raw.fields.get(MASK_FIELD)
    if content is None:
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has no {MASK_FIELD}")
    mask = torch.from_numpy(decode_mask(content))
    if mask.shape != size:
        raise DecodeError(f"the mask is {tuple(mask.shape)}, its image {tuple(size)} (height, width)")
    return mask
