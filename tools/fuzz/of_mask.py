"""Fuzz target: encoded label maps must give label ids of one channel, or be refused."""

import contextlib
import warnings

import numpy as np

from mps_shards.errors import DecodeError
from mps_shards.vision import decoding as decode
from tools.fuzz.examples import encoded
from tools.fuzz.of_image import MAX_PIXELS, with_crcs

__all__ = ["check", "seeds"]


def seeds() -> list[bytes]:
    """Return PNGs of every mode."""
    modes = [encoded(mode, "PNG") for mode in ("L", "P", "1", "I;16", "RGB", "LA")]
    return [*modes, encoded("P", "PNG", transparency=bytes(range(40)), bits=4), encoded("I;16", "TIFF")]


def check(data: bytes) -> None:
    """Check a label map, and for a PNG also the label map with corrected checksums."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in {data, with_crcs(data)}:
            with contextlib.suppress(DecodeError):
                mask = decode.decode_mask(content, max_pixels=MAX_PIXELS)
                assert mask.ndim == 2 and mask.size <= MAX_PIXELS and mask.dtype in (np.uint8, np.int32)
