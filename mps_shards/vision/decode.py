"""Encoded images -> arrays, bit for bit what Pillow's ``Image.open(f).convert("RGB")`` gives.

JPEGs go through simplejpeg (libjpeg-turbo), which is faster than Pillow and gives the same bits for colour and gray
ones; everything else, and every JPEG that it declines, goes through Pillow. The file's content decides, not its name.
EXIF orientation is not applied, since `Image.open` does not apply it either.
"""

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from mps_shards.errors import DecodeError
from mps_shards.shards.sample import Buffer

__all__ = ["MAX_PIXELS", "decode_image", "decode_mask", "image_size"]

# Where Pillow raises DecompressionBombError: twice Image.MAX_IMAGE_PIXELS.
MAX_PIXELS = 178_956_970

_JPEG = b"\xff\xd8\xff"


def image_size(content: Buffer) -> tuple[int, int] | None:
    """Height and width of a JPEG from its header alone; None for what `decode_image` cannot decode smaller."""
    if content[:3] != _JPEG:
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (height, width) if colorspace in ("YCbCr", "Gray") else None


def decode_image(content: Buffer, *, factor: int = 1) -> npt.NDArray[np.uint8]:
    """Pixels of an encoded image.

    Args:
        content: JPEG, PNG, WebP, or anything else that Pillow opens.
        factor: 2, 4 or 8 decodes a JPEG that much smaller, from fewer DCT coefficients; sides are rounded up. Only
            for what `image_size` knows.

    Returns:
        uint8 (height, width, 3), RGB, 0..255, contiguous; the caller's own.

    Raises:
        DecodeError: damaged, cut off, no image, or more than `MAX_PIXELS`.
    """
    if content[:3] == _JPEG:
        try:
            height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
            _check_pixels(width, height)
            if colorspace in ("YCbCr", "Gray"):
                least = {"min_height": -(-height // factor), "min_width": -(-width // factor)} if factor > 1 else {}
                return simplejpeg.decode_jpeg(content, "RGB", **least)  # type: ignore[no-any-return]  # ships no types
        except ValueError:
            pass  # damaged or unusual: Pillow has the last word, here and in what callers compare with
    image = _open(content)
    with image:
        image.info.pop("transparency", None)  # has no say in RGB, and Pillow warns of some kinds
        return _array(image.convert("RGB"))


def decode_mask(content: Buffer) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
    """Label ids of a single-channel label map; palette images give their indices.

    Returns:
        uint8 (height, width), or int32 where the file has 16 bits.

    Raises:
        DecodeError: damaged, or not single-channel.
    """
    image = _open(content)
    with image:
        if image.mode in ("L", "P"):
            return _array(image)
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.int32)
        raise DecodeError(f"the mask has mode {image.mode}; label maps have one channel (modes L, P, 1 or I;16)")


def _open(content: Buffer) -> Image.Image:
    """The image, its pixels loaded."""
    try:
        image = Image.open(io.BytesIO(content))  # from half of MAX_PIXELS on, Pillow itself warns
        _check_pixels(*image.size)
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error) if not isinstance(error, UnidentifiedImageError) else _begins(content)
        raise DecodeError(f"cannot decode the image: {reason}") from error
    return image


def _begins(content: Buffer) -> str:
    return f"no known format, {len(content)} bytes beginning with {bytes(content[:8])!r}"


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"the image has {width} x {height} pixels, at most {MAX_PIXELS:,} are accepted")


def _array(image: Image.Image) -> npt.NDArray[np.uint8]:
    # a copy of our own: Pillow's array interface gives read-only memory, which torch warns of
    return np.array(image, dtype=np.uint8)
