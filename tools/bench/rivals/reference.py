"""Reference images that every loader should deliver, made with Pillow, and the comparison with delivered images."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.bench.rivals.workloads import Task, Workload

__all__ = ["Difference", "compared", "delivered", "segmented"]

_GRID = 16  # cells per side of the thumbnail that identifies an image
Pixels = npt.NDArray[np.uint8]


class Difference(NamedTuple):
    """Difference of delivered images from the reference, in steps of 255, and number of wrong masks."""

    mean: float
    max: float
    wrong_masks: int


def delivered(path: Path, work: Workload) -> Pixels:
    """Return the reference image of a file: uint8 [3, height, width]."""
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
    """Return reference image and mask, scaled to fit the square and padded at the right and bottom (masks with 255)."""
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
    """Return the path of the label map of an image file."""
    return image.parents[1] / "masks" / f"{image.stem}.png"


def thumbnails(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return thumbnails of images [batch, 3, height, width], one flattened thumbnail per row."""
    batch, channels, height, width = images.shape
    high, wide = height // _GRID, width // _GRID
    cells = images[:, :, : high * _GRID, : wide * _GRID].reshape(batch, channels, _GRID, high, _GRID, wide)
    small: npt.NDArray[np.float32] = cells.mean(axis=(3, 5)).reshape(batch, -1).astype(np.float32)
    return small


def compared(images: npt.NDArray[np.float32], targets: npt.NDArray[Any], task: Task) -> Difference:
    """Compare delivered images, 0..1, with the reference images of their files.

    Raises:
        ValueError: an image belongs to no file, or to a file with another label.
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
        if distance[found] > 12:  # of 255: two photographs differ by more, another way of resizing by less
            raise ValueError(
                f"a delivered image belongs to no file (the nearest differs by {distance[found]:.1f} of 255)"
            )
        if work.kind == "segment":
            wrong_masks += not np.array_equal(target, expected[found][1])
        elif classes[files[found].parent.name] != int(target):
            raise ValueError(f"{files[found].name} was delivered with the wrong label {int(target)}")
        apart = np.abs(image * 255 - expected[found][0])
        largest, total = max(largest, float(apart.max())), total + float(apart.mean())
    return Difference(total / len(images), largest, wrong_masks)
