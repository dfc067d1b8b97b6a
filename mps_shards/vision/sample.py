"""A raw sample -> an image and its target, as the set's task asks for."""

from typing import Any

import torch

from mps_shards.errors import DecodeError
from mps_shards.shards.manifest import Task
from mps_shards.shards.sample import MASK_FIELD, RawSample
from mps_shards.vision.decode import decode_image, decode_mask

__all__ = ["image_and_target"]


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
    label = raw.label()
    if (label < 0) != (task == "unlabeled"):
        found = "no label, the set has labels" if label < 0 else "a label, the set has none"
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has {found}")
    if classes and label >= classes:
        raise DecodeError(f"label {label} of sample {raw.key!r} is no class: the set has {classes}")
    return image, label


def _mask(raw: RawSample, size: torch.Size) -> torch.Tensor:
    content = raw.fields.get(MASK_FIELD)
    if content is None:
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has no {MASK_FIELD}")
    mask = torch.from_numpy(decode_mask(content))
    if mask.shape != size:
        raise DecodeError(f"the mask is {tuple(mask.shape)}, its image {tuple(size)} (height, width)")
    return mask
