"""JPEGs as grids of tiles: the same pixels, but any crop can be cut out of the bytes and decoded alone.

A tiled JPEG has restart markers every few MCUs, and an APP10 segment that marks it as tiled. Every decoder reads it.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from mps_shards.native import build
from mps_shards.native.kernel import Decoder, Layout

__all__ = ["NOTE", "is_tiled", "original_sha256", "tile_fault", "tiled"]

# Content of the APP10 segment: this name, and the SHA-256 of the file before it was rewritten. There is no table of the
# tiles: the reader looks at every marker anyway, to notice damage outside of a crop, and finding the tiles takes less
# than 1 % of its time.
NOTE = b"mps-shards tiles\0\1"

_APP10 = 0xEA
_SOS = 0xDA


def tiled(content: bytes | memoryview) -> bytes | None:
    """Rewrite a JPEG as a grid of tiles; a tiled JPEG is returned unchanged, None if rewriting would lose information.

    Not supported are other formats, CMYK and RGB, more than 8 bits, arithmetic coding, damaged files, and files
    with bytes after the end of their image. Progressive files become baseline. Metadata is kept.

    Raises:
        ConfigError: the kernel is not built.
    """
    if is_tiled(content):
        return bytes(content)
    rewritten: bytes | None = build.module().rewrite(content, NOTE + hashlib.sha256(content).digest())
    return rewritten


def is_tiled(content: bytes | memoryview) -> bool:
    """Whether `tiled` wrote this file."""
    return original_sha256(content) is not None


def original_sha256(content: bytes | memoryview) -> str | None:
    """Return the hexadecimal SHA-256 of the file before `tiled` rewrote it; None for other files."""
    at = 2
    while content[:2] == b"\xff\xd8" and at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SOS:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = bytes(content[at + 4 : at + 2 + length])
        if content[at + 1] == _APP10 and segment.startswith(NOTE) and len(segment) == len(NOTE) + 32:
            return segment[len(NOTE) :].hex()
        at += 2 + length
    return None


def tile_fault(content: bytes | memoryview, pixels: npt.NDArray[np.uint8]) -> str | None:
    """Return a fault of the tiles of a file; None if every quarter, decoded alone, equals that part of the image.

    Args:
        pixels: uint8 [height, width, 3], the pixels of the whole image.

    Raises:
        ConfigError: the kernel is not built.
    """
    height, width = pixels.shape[:2]
    decoder = Decoder()
    for top, bottom in ((0, -(-height // 2)), (height // 2, height)):
        for left, right in ((0, -(-width // 2)), (width // 2, width)):
            tall, wide = bottom - top, right - left
            view = np.array([[top, left, tall, wide, tall, wide, 0, 0, tall, wide, 0, 1]], np.int32)
            rows = np.empty((1, tall, wide, 3), np.uint8)
            if decoder.render([content], view, rows, layout=Layout.BYTE_PIXELS, max_pixels=height * width) == b"\0":
                return "its tiles cannot be decoded alone"
            if not np.array_equal(rows[0], pixels[top:bottom, left:right]):
                return "its tiles show other pixels than the whole image"
    return None
