"""A raw sample -> an image and its target, as the set's task asks for."""

from typing import Any, NamedTuple

import numpy.typing as npt
import torch

from mps_shards.errors import DecodeError
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import MASK_FIELD, Buffer, RawSample
from mps_shards.vision.decoding import MAX_PIXELS, decode_image, decode_mask, image_size

__all__ = ["Opened", "image_and_target", "opened"]


class Opened(NamedTuple):
    """A sample before its pixels are decoded.

    Attributes:
        image: encoded.
        size: height and width of the image, where its header alone says them; see `image_size`.
        target: class number, -1 in an unlabelled set; None where it is a mask.
    """

    image: Buffer
    size: tuple[int, int] | None
    target: int | None


def opened(raw: RawSample, *, task: Task | None, classes: int) -> Opened:
    """What is known of a sample without decoding it.

    Args:
        task: "classification" gives the class number, "unlabeled" -1, "segmentation" None.
        classes: how many the set has; 0 where that is not known.

    Raises:
        DecodeError: there is not one image, or the label is missing, malformed or no class of the set.
    """
    _, image = raw.image()
    return Opened(image, image_size(image), None if task == "segmentation" else _class_of(raw, task, classes))


def image_and_target(
    raw: RawSample,
    known: Opened,
    *,
    classes: int,
    ignore_index: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[torch.Tensor, Any]:
    """Image uint8 (3, height, width), a view of channels-last memory; class, or mask uint8 or int32 (height, width).

    Args:
        known: `opened` of it.
        ignore_index: the id in masks that is no class.
        max_pixels: of the image, and of the mask.

    Raises:
        DecodeError: image or mask is missing, malformed, of another size than the other, or has ids of no class.
    """
    pixels = decode_image(known.image, max_pixels=max_pixels, size=known.size)
    # turned by NumPy: torch would let go of the GIL for it, and may wait for it longer than the whole call takes
    image = torch.from_numpy(pixels.transpose(2, 0, 1))
    if known.target is not None:
        return image, known.target
    mask = decode_mask(_mask_content(raw), max_pixels=max_pixels)
    if mask.shape != image.shape[1:]:
        raise DecodeError(f"the mask is {mask.shape}, its image {tuple(image.shape[1:])} (height, width)")
    if classes:
        _check_ids(mask, classes, ignore_index)
    return image, torch.from_numpy(mask)


def _class_of(raw: RawSample, task: Task | None, classes: int) -> int:
    label = raw.label()
    if (label < 0) != (task == "unlabeled"):
        found = "no label, the set has labels" if label < 0 else "a label, the set has none"
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has {found}")
    if classes and label >= classes:
        raise DecodeError(f"label {label} of sample {raw.key!r} is no class: the set has {classes}")
    return label


def _mask_content(raw: RawSample) -> Buffer:
    content = raw.fields.get(MASK_FIELD)
    if content is None:
        raise DecodeError(f"sample {raw.key!r} of shard {raw.shard} has no {MASK_FIELD}")
    return content


def _check_ids(mask: npt.NDArray[Any], classes: int, ignore_index: int | None) -> None:
    """A loss on a GPU meets an unknown id as a failed assertion, with no word of where it came from."""
    unknown = mask >= classes
    if ignore_index is not None:
        unknown &= mask != ignore_index
    if unknown.any():
        found = int(mask[unknown][0])
        raise DecodeError(f"the mask has the id {found}, the set has {classes} classes (ignore_index {ignore_index})")
