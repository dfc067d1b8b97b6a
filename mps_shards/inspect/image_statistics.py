"""Statistics of images as integers, so that the result does not depend on the order of the samples."""

import io
import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ExifTags import Base

from mps_shards.shards.manifest import Manifest
from mps_shards.shards.raw_sample import Buffer, RawSample
from mps_shards.shards.target_values import caption, class_ids, numbers
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.label_maps import label_map_of

__all__ = ["Facts", "Tally", "examined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Size, format, target and pixel values of one sample.

    Attributes:
        format, mode: Pillow's names ("JPEG"; "RGB", "L", "P").
        width, height: size of the stored image in pixels.
        orientation: EXIF orientation, 1 to 8; 1 without EXIF data.
        bytes: size of the encoded image.
        labels: class indices: one for classification, any number for multi-label; (-1,) without a target.
        numbers: regression targets, one per column.
        caption_words: number of words of a caption; None without one.
        levels: int64 [3, 256], number of pixels per channel (RGB) and value.
        mask: number of pixels by label id; None without a label map.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    bytes: int
    labels: tuple[int, ...]
    levels: npt.NDArray[np.int64]
    mask: dict[int, int] | None
    numbers: tuple[float, ...] = ()
    caption_words: int | None = None


def examined(raw: RawSample, manifest: Manifest) -> Facts:
    """Decode a sample and count its values.

    Raises:
        DecodeError: the image or the target is missing or damaged, or the size of the label map differs.
    """
    _, content = raw.image()
    pixels = decode_image(content)
    kind, mode, orientation = _header(content)
    task = manifest.task
    mask = _pixels_by_id(label_map_of(raw, size=pixels.shape[:2])) if task == "segmentation" else None
    return Facts(
        format=kind,
        mode=mode,
        width=pixels.shape[1],
        height=pixels.shape[0],
        orientation=orientation,
        bytes=len(content),
        labels=class_ids(raw, classes=len(manifest.classes)) if task == "multilabel" else (raw.label(),),
        levels=np.array(Image.fromarray(pixels).histogram(), dtype=np.int64).reshape(3, 256),
        mask=mask,
        numbers=tuple(numbers(raw, manifest.column_names)) if task == "regression" else (),
        caption_words=len(caption(raw).split()) if task == "captions" else None,
    )


@dataclass(slots=True, kw_only=True)
class Tally:
    """Sum of the facts of many samples.

    Attributes:
        samples: number of samples added.
        labels: number of samples by class index; a multi-label sample counts for each of its classes.
        formats, modes, orientations, sizes: number of samples by value; a size is (width, height).
        bytes: size of each encoded image.
        levels: int64 [3, 256], as in `Facts`.
        numbers: regression targets of each sample.
        caption_words: number of words of each caption.
        mask_pixels: number of pixels by label id.
        mask_samples: number of samples that contain each label id.
        mask_image_pixels: for each label id, number of pixels of the samples that contain it, without ignored pixels.
    """

    samples: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    orientations: Counter[int] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bytes: list[int] = field(default_factory=list)
    levels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 256), dtype=np.int64))
    numbers: list[tuple[float, ...]] = field(default_factory=list)
    caption_words: list[int] = field(default_factory=list)
    mask_pixels: Counter[int] = field(default_factory=Counter)
    mask_samples: Counter[int] = field(default_factory=Counter)
    mask_image_pixels: Counter[int] = field(default_factory=Counter)

    def add(self, facts: Facts, *, ignore_index: int | None = None) -> None:
        """Add one sample."""
        self.samples += 1
        self.labels.update(facts.labels)
        if facts.numbers:
            self.numbers.append(facts.numbers)
        if facts.caption_words is not None:
            self.caption_words.append(facts.caption_words)
        self.formats[facts.format] += 1
        self.modes[facts.mode] += 1
        self.orientations[facts.orientation] += 1
        self.sizes[facts.width, facts.height] += 1
        self.bytes.append(facts.bytes)
        self.levels += facts.levels
        known = sum(pixels for value, pixels in (facts.mask or {}).items() if value != ignore_index)
        for value, pixels in (facts.mask or {}).items():
            self.mask_pixels[value] += pixels
            self.mask_samples[value] += 1
            self.mask_image_pixels[value] += known

    @property
    def pixels(self) -> int:
        """Number of pixels of all images together."""
        return int(self.levels[0].sum())

    def mean(self) -> list[float]:
        """Mean of each channel (RGB) over all pixels, 0..1."""
        return [self._moment(channel, 1) / (255 * self.pixels) for channel in range(3)] if self.pixels else []

    def std(self) -> list[float]:
        """Standard deviation of each channel (RGB) over all pixels, 0..1, as ``np.std`` gives it."""
        if not self.pixels:
            return []
        # integers up to the square root, so that subtracting large numbers loses no precision
        spread = [self.pixels * self._moment(c, 2) - self._moment(c, 1) ** 2 for c in range(3)]
        return [math.sqrt(value) / (255 * self.pixels) for value in spread]

    def _moment(self, channel: int, power: int) -> int:
        return sum(count * value**power for value, count in enumerate(self.levels[channel].tolist()))


def _header(content: Buffer) -> tuple[str, str, int]:
    """Return format, mode and EXIF orientation of an image that is known to decode."""
    with Image.open(io.BytesIO(content)) as image:
        try:
            orientation: Any = image.getexif().get(Base.Orientation, 1)  # 1 is upright
        except (OSError, SyntaxError, ValueError, KeyError, struct.error):  # damaged EXIF data count as upright
            orientation = 1
        return image.format or "", image.mode, orientation if orientation in range(1, 9) else 1


def _pixels_by_id(label_map: npt.NDArray[Any]) -> dict[int, int]:
    counts = np.bincount(label_map.ravel())
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}
