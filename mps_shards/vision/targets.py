"""Decoding of a raw sample into an image and a target; the task of the set decides the kind of the target."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mps_shards.errors import DecodeError
from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.target_values import caption, class_ids, numbers
from mps_shards.vision.decoding import MAX_PIXELS, decode_image, image_size
from mps_shards.vision.label_maps import label_map_of

__all__ = ["Opened", "image_and_target", "opened"]


class Opened(NamedTuple):
    """A sample whose target is known, but whose pixels are not decoded.

    Attributes:
        image: the encoded image.
        size: height and width of the image by `image_size`; None if that function returns none.
        target: the target by the task, see `opened`; None if it is a label map, which is not decoded either.
    """

    image: Buffer
    size: tuple[int, int] | None
    target: Any


def opened(raw: RawSample, *, task: Task | None, classes: int, columns: Sequence[str] = ()) -> Opened:
    """Return the parts of a sample that are known without decoding its pixels.

    Args:
        raw: the sample.
        task: kind of the target. "classification" gives the class number, "unlabeled" -1, "segmentation" None,
            "multilabel" a float32 tensor [classes] of 0 and 1, "regression" a float32 tensor [columns], "captions" a
            string.
        classes: number of classes of the set; 0 if it is not known.
        columns: names of the numbers that are the target of a regression set.

    Raises:
        DecodeError: the sample has no image or several, or its label is missing, malformed or not a class of the set.
    """
    _, image = raw.image()
    return Opened(image, image_size(image), _target_of(raw, task, classes, columns))


def image_and_target(
    raw: RawSample,
    known: Opened,
    *,
    classes: int,
    ignore_index: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[torch.Tensor, Any]:
    """Decode the image, and the label map if the target is one.

    Args:
        raw: the sample.
        known: the result of `opened` for this sample.
        classes: number of classes of the set; 0 if it is not known.
        ignore_index: label id that is not a class.
        max_pixels: limit for the pixels of the image, and for those of the label map.

    Returns:
        The image uint8 [3, height, width], a view of channels-last memory, and the target: that of `known`, or the
        label map uint8 or int32 [height, width].

    Raises:
        DecodeError: image or label map is missing or malformed, their sizes differ, or a label id is not a class.
    """
    pixels = decode_image(known.image, max_pixels=max_pixels, size=known.size)
    # transposed by NumPy, because torch would release the GIL, and waiting for it takes longer than the call
    image = torch.from_numpy(pixels.transpose(2, 0, 1))
    if known.target is not None:
        return image, known.target
    mask = label_map_of(raw, size=pixels.shape[:2], classes=classes, ignore_index=ignore_index, max_pixels=max_pixels)
    return image, torch.from_numpy(mask)


def _target_of(raw: RawSample, task: Task | None, classes: int, columns: Sequence[str]) -> Any:
    if task == "segmentation":
        return None
    if task == "captions":
        return caption(raw)
    if task == "regression":
        return torch.tensor(numbers(raw, columns), dtype=torch.float32)
    if task == "multilabel":
        target = torch.zeros(classes)
        target[list(class_ids(raw, classes=classes))] = 1.0
        return target
    return _class_of(raw, task, classes)


def _class_of(raw: RawSample, task: Task | None, classes: int) -> int:
    label = raw.label()
    if (label < 0) != (task == "unlabeled"):
        mismatch = "no label, but the set has labels" if label < 0 else "a label, but the set has none"
        raise DecodeError(f"{raw} has {mismatch}")
    if classes and label >= classes:
        raise DecodeError(f"label {label} of sample {raw.key!r} is not a class: the set has {classes} classes")
    return label
