"""What the images of a set are like, in whole numbers: the same whatever order they are added in."""

import io
import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mps_shards.shards.manifest import Task
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.label_maps import label_map_of

__all__ = ["Facts", "Tally", "examined"]

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one sample is.

    Attributes:
        format, mode: as Pillow calls them ("JPEG"; "RGB", "L", "P").
        width, height: in pixels, as stored.
        orientation: of the EXIF data, 1 to 8; 1 where there is none.
        bytes: of the encoded image.
        label: class number, or -1.
        levels: int64 (3, 256), how many pixels of each channel (RGB) have each value.
        mask: pixels by mask value; None without a mask.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    bytes: int
    label: int
    levels: npt.NDArray[np.int64]
    mask: dict[int, int] | None


def examined(raw: RawSample, task: Task) -> Facts:
    """Decode a sample and count.

    Raises:
        DecodeError: image, label or mask is missing, damaged, or does not fit the other.
    """
    _, content = raw.image()
    pixels = decode_image(content)
    kind, mode, orientation = _header(content)
    mask = _pixels_by_id(label_map_of(raw, size=pixels.shape[:2])) if task == "segmentation" else None
    return Facts(
        format=kind,
        mode=mode,
        width=pixels.shape[1],
        height=pixels.shape[0],
        orientation=orientation,
        bytes=len(content),
        label=raw.label(),
        levels=np.array(Image.fromarray(pixels).histogram(), dtype=np.int64).reshape(3, 256),
        mask=mask,
    )


@dataclass(slots=True, kw_only=True)
class Tally:
    """Facts added up.

    Attributes:
        samples: added.
        labels: samples by class number.
        formats, modes, orientations, sizes: samples by each; a size is (width, height).
        bytes: of each encoded image.
        levels: int64 (3, 256), see `Facts`.
        mask_pixels: pixels by mask value.
        mask_samples: samples that hold each mask value.
    """

    samples: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    orientations: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bytes: list[int] = field(default_factory=list)
    levels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), dtype=np.int64))
    mask_pixels: Counter[int] = field(default_factory=Counter)
    mask_samples: Counter[int] = field(default_factory=Counter)

    def add(self, facts: Facts) -> None:
        """Add one sample."""
        self.samples += 1
        self.labels[facts.label] += 1
        self.formats[facts.format] += 1
        self.modes[facts.mode] += 1
        self.orientations[facts.orientation] += 1
        self.sizes[facts.width, facts.height] += 1
        self.bytes.append(facts.bytes)
        self.levels += facts.levels
        for value, pixels in (facts.mask or {}).items():
            self.mask_pixels[value] += pixels
            self.mask_samples[value] += 1

    @property
    def pixels(self) -> int:
        """Of all images together."""
        return int(self.levels[0].sum())

    def mean(self) -> list[float]:
        """Of each channel (RGB), 0..1, over all pixels."""
        return [self._moment(channel, 1) / (255 * self.pixels) for channel in range(3)] if self.pixels else []

    def std(self) -> list[float]:
        """Of each channel (RGB), 0..1, over all pixels, as ``np.std`` gives it."""
        if not self.pixels:
            return []
        # in whole numbers up to the root: nothing is lost by subtracting large from large
        spread = [self.pixels * self._moment(c, 2) - self._moment(c, 1) ** 2 for c in range(3)]
        return [math.sqrt(value) / (255 * self.pixels) for value in spread]

    def _moment(self, channel: int, power: int) -> int:
        return sum(count * value**power for value, count in enumerate(self.levels[channel].tolist()))


def _header(content: Buffer) -> tuple[str, str, int]:
    """Format, mode and EXIF orientation. The image was decoded, so it can be opened."""
    with Image.open(io.BytesIO(content)) as image:
        try:
            orientation: Any = image.getexif().get(_ORIENTATION, 1)
        except (OSError, SyntaxError, ValueError, KeyError, struct.error):  # damaged EXIF data orient nothing
            orientation = 1
        return image.format or "", image.mode, orientation if orientation in range(1, 9) else 1


def _pixels_by_id(label_map: npt.NDArray[Any]) -> dict[int, int]:
    counts = np.bincount(label_map.ravel())
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
