"""Sizes and crops, computed by the rules of torchvision and drawn from the same distributions."""

import math

import numpy as np

__all__ = ["central_crop", "random_crop", "shorter_side_resized"]

Region = tuple[int, int, int, int]  # top, left, height, width


def random_crop(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Region:
    """Draw a crop of an image, by the method of torchvision's RandomResizedCrop.get_params.

    Args:
        scale: smallest and largest area of the crop, as a share of the image's area.
        ratio: smallest and largest aspect ratio of the crop, width / height.

    Returns:
        Top, left, height and width of the crop, in pixels.
    """
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
    """Return the height and width after resizing the shorter side to `length`, rounded as torchvision rounds them."""
    shorter = min(height, width)
    return int(length * height / shorter), int(length * width / shorter)


def central_crop(size: tuple[int, int], crop: tuple[int, int]) -> Region:
    """Return the central crop of height and width `crop` in an image of height and width `size`."""
    top, left = (round((side - cropped) / 2.0) for side, cropped in zip(size, crop, strict=True))
    return top, left, *crop
