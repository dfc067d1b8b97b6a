"""Label maps drawn in colour over their images."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mps_shards.inspect.palette_colours import IGNORED, Colour, class_colour

__all__ = ["class_names", "overlaid"]

Pixels = npt.NDArray[np.uint8]

_TINT = 0.55  # share of the class's colour; the rest is the image
_STRIPE = 6  # width in pixels of the stripes that mark ignored pixels


def overlaid(
    image: Pixels,
    mask: npt.NDArray[np.integer],
    classes: Sequence[str],
    ignore_index: int | None,
    colours: Sequence[Colour] = (),
) -> Pixels:
    """Draw a label map over its image: classes in colour with outlines, ignored pixels striped, background unchanged.

    Args:
        image: uint8 (height, width, 3), RGB.
        mask: (height, width).
        classes: names; one called "background" is not coloured.
        colours: colours of the label ids 0, 1, …; by default each class gets its `class_colour`.

    Returns:
        uint8 (height, width, 3), a new array.
    """
    shown = image.copy()
    for value in np.unique(mask).tolist():
        here = mask == value
        if value == ignore_index:
            rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
            here &= (rows + columns) % (2 * _STRIPE) < _STRIPE
            colour = IGNORED
        elif value < len(classes) and classes[value].lower() == "background":
            continue
        else:
            colour = colours[value] if value < len(colours) else class_colour(value)
        shown[here] = np.rint((1 - _TINT) * shown[here] + _TINT * np.array(colour)).astype(np.uint8)
    shown[_outlines(mask)] = 255
    return shown


def class_names(values: Sequence[int], classes: Sequence[str], ignore_index: int | None) -> dict[int, str]:
    """Return the names of the label ids that occur, "background" last and ignored pixels after it."""
    names = {value: classes[value] if value < len(classes) else f"class {value}" for value in values}
    if ignore_index in names:
        names[ignore_index] = "ignored"
    behind = {"background": 1, "ignored": 2}
    return dict(sorted(names.items(), key=lambda item: (behind.get(item[1].lower(), 0), item[0])))


def _outlines(mask: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Return where the next pixel to the right or below belongs to another class."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    return edge
