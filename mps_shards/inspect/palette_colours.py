"""Colours for classes that the eye can tell apart from each other and from black and white."""

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["IGNORED", "Colour", "class_colour"]

Colour = tuple[int, int, int]

IGNORED: Colour = (128, 128, 128)  # colour of label-map pixels that belong to no class

_STEPS = range(32, 256, 16)  # values per channel that are tried


def class_colour(number: int) -> Colour:
    """Return the colour of a class. The colour depends on the class index alone; after 256 classes colours repeat."""
    red, green, blue = _palette()[number % 256].tolist()
    return red, green, blue


@cache
def _palette() -> npt.NDArray[np.uint8]:
    """Return 256 colours; each is as far in Oklab as possible from those before it."""
    grid = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _oklab(grid)
    strength = np.hypot(seen[:, 1], seen[:, 2])
    # neither near grey nor glaring, and legible on white as well as on black
    fit = (strength > 0.08) & (strength < 0.2) & (seen[:, 0] > 0.5) & (seen[:, 0] < 0.85)
    grid, seen = grid[fit], seen[fit]
    taken = _oklab(np.array([[0, 0, 0], [255, 255, 255], IGNORED]))
    nearest = np.linalg.norm(seen[:, None] - taken, axis=-1).min(axis=1)
    chosen = []
    for _ in range(256):
        best = int(nearest.argmax())
        chosen.append(grid[best])
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[best], axis=-1))
    return np.array(chosen, dtype=np.uint8)


def _oklab(colours: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """Convert sRGB 0..255 to Oklab, where distances match perception (bottosson.github.io/posts/oklab)."""
    encoded = colours / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    found: npt.NDArray[np.float64] = np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )
    return found
