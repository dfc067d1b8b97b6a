"""What every loader should deliver: Pillow and torchvision's classic transforms. Finds the file behind a picture."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.bench.rivals.workloads import Task, Workload

__all__ = ["Difference", "compared", "delivered", "segmented"]

_GRID = 16  # cells a side of the thumbnail that a picture is recognised by
Pixels = npt.NDArray[np.uint8]


class Difference(NamedTuple):
    """How far delivered pictures are from the reference, of 255."""

    mean: float
    max: float
    wrong_masks: int


def delivered(path: Path, work: Workload) -> Pixels:
    """The picture of a file, uint8 (3, height, width)."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if work.kind == "evaluate":
        short = min(image.size)
        width, height = (int(side * work.resize / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - work.size) / 2), round((height - work.size) / 2)
        image = image.crop((left, top, left + work.size, top + work.size))
    return np.asarray(image).transpose(2, 0, 1)


def segmented(path: Path, work: Workload) -> tuple[Pixels, Pixels]:
    """Picture and mask, scaled to fit the square; padded at the right and the bottom, masks with 255."""
    import torch
    from torchvision.transforms.v2 import functional as kernels

    with Image.open(path) as opened:
        image = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)
    with Image.open(mask_of(path)) as opened:
        mask = torch.from_numpy(np.array(opened))[None]
    factor = work.size / max(mask.shape[-2:])
    size = [max(1, round(side * factor)) for side in mask.shape[-2:]]
    padding = [0, 0, work.size - size[1], work.size - size[0]]
    image = kernels.pad(kernels.resize(image, size), padding)
    mask = kernels.pad(kernels.resize(mask, size, kernels.InterpolationMode.NEAREST), padding, fill=255)
    return image.numpy(), mask[0].numpy()


def mask_of(image: Path) -> Path:
    """The label map of an image file."""
    return image.parents[1] / "masks" / f"{image.stem}.png"


def thumbnails(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Small pictures, a row each, of images (batch, 3, height, width)."""
    batch, channels, height, width = images.shape
    high, wide = height // _GRID, width // _GRID
    cells = images[:, :, : high * _GRID, : wide * _GRID].reshape(batch, channels, _GRID, high, _GRID, wide)
    small: npt.NDArray[np.float32] = cells.mean(axis=(3, 5)).reshape(batch, -1).astype(np.float32)
    return small


def compared(images: npt.NDArray[np.float32], targets: npt.NDArray[Any], task: Task) -> Difference:
    """Compare delivered pictures, 0..1, with those of the files that they come from.

    Raises:
        ValueError: a picture is of no file, or of one with another label.
    """
    work = task.work
    files = task.files()
    if work.kind == "segment":
        expected = [segmented(path, work) for path in files]
    else:
        expected = [(delivered(path, work), np.empty(0, np.uint8)) for path in files]
    known = np.concatenate([thumbnails(image[None]) for image, _ in expected])
    classes = task.classes()
    largest, total, wrong_masks = 0.0, 0.0, 0
    for image, target, thumbnail in zip(images, targets, thumbnails(images * 255), strict=True):
        distance = np.abs(known - thumbnail).mean(axis=1)
        found = int(np.argmin(distance))
        if distance[found] > 12:  # of 255: neighbours in a photograph differ by more, another resize by less
            raise ValueError(f"a delivered picture is of no file (the nearest is {distance[found]:.1f} of 255 away)")
        if work.kind == "segment":
            wrong_masks += not np.array_equal(target, expected[found][1])
        elif classes[files[found].parent.name] != int(target):
            raise ValueError(f"{files[found].name} came with label {int(target)}")
        apart = np.abs(image * 255 - expected[found][0])
        largest, total = max(largest, float(apart.max())), total + float(apart.mean())
    return Difference(total / len(images), largest, wrong_masks)
