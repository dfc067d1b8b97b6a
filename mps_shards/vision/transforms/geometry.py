"""Sizes and crops, computed and drawn like torchvision."""

import math

import numpy as np

__all__ = ["central_crop", "random_crop", "shorter_side_resized"]

Region = tuple[int, int, int, int]  # top, left, height, width


def random_crop(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Region:
    """Draw a crop from ranges of area and aspect ratio, like RandomResizedCrop.get_params."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * rng.random())
        aspect = math.exp(low + (high - low) * rng.random())
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            return int(rng.random() * (height - tall + 1)), int(rng.random() * (width - wide + 1)), tall, wide
    # No crop fits: take the largest central one whose aspect ratio is allowed.
    aspect = min(max(width / height, ratio[0]), ratio[1])
    wide = min(width, round(height * aspect))
    tall = min(height, round(width / aspect))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def shorter_side_resized(height: int, width: int, length: int) -> tuple[int, int]:
    """Return height and width after the shorter side was resized to `length`."""
    shorter = min(height, width)
    return int(length * height / shorter), int(length * width / shorter)


def central_crop(size: tuple[int, int], crop: tuple[int, int]) -> Region:
    """Return the central crop of this height and width."""
    top, left = (round((side - cropped) / 2.0) for side, cropped in zip(size, crop, strict=True))
    return top, left, *crop
