"""Decoding of images to arrays that equal Pillow's ``Image.open(f).convert("RGB")`` bit for bit.

Two faults that Pillow ignores are errors here: damaged JPEG data that libjpeg warns about, and gray values above 255,
which ``convert`` clips.

JPEGs are decoded by simplejpeg (libjpeg-turbo), which is faster than Pillow and gives the same pixels for colour and
gray images. All other images, and JPEGs that simplejpeg refuses, are decoded by Pillow. The format is recognised by the
content of a file, not by its name. EXIF orientation is not applied, as `Image.open` does not apply it either.

Two other decoders were tried. TorchCodec 0.17 takes 0.80 to 0.92 of Pillow's time for PNG and WebP, with the same
pixels, but it reads damaged WebP files that Pillow refuses. torchvision 0.29 crashes on damaged PNG files.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.raw_sample import Buffer
from mps_shards.vision.image_files import JPEG_SIGNATURE, MAX_PIXELS, open_image
from mps_shards.vision.integrity import check_integrity, lost_jpeg_data
from mps_shards.vision.pixel_budget import COUNTED_FROM, budget

__all__ = ["MAX_PIXELS", "decode_image", "decode_mask", "image_size", "load_image"]

_BAND_PIXELS = 1 << 22  # number of pixels of a large image that are converted at a time


def image_size(content: Buffer) -> tuple[int, int] | None:
    """Return (height, width) of a gray or YCbCr JPEG from its header; None for every other image."""
    if content[:3] != JPEG_SIGNATURE:
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (height, width) if colorspace in ("YCbCr", "Gray") else None


def decode_image(
    content: Buffer, *, factor: int = 1, max_pixels: int = MAX_PIXELS, size: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Return the pixels of an encoded image, or of the first frame if it has several.

    Args:
        content: JPEG, PNG, WebP, AVIF, PPM, BMP, TIFF or GIF; HEIC and JPEG XL if their packages are installed.
        factor: 2, 4 or 8 decodes a JPEG at 1/2, 1/4 or 1/8 of its size, from fewer DCT coefficients; sides are rounded
            up. Other factors than 1 need an image for which `image_size` returns a size.
        max_pixels: limit for the number of pixels; larger images are refused before memory is allocated. Pillow's own
            limit still applies.
        size: result of `image_size` for this image, if the caller has it already.

    Returns:
        uint8 [height, width, 3], RGB, 0..255, contiguous, not shared.

    Raises:
        ConfigError: the format needs a package that is not installed.
        DecodeError: the image is damaged, cut off or too large, or the content is not an image.
    """
    size = size or image_size(content)
    if size is not None:
        height, width = size
        _check_pixels(width, height, max_pixels)
        least = {"min_height": -(-height // factor), "min_width": -(-width // factor)} if factor > 1 else {}
        try:
            return simplejpeg.decode_jpeg(content, "RGB", **least)  # type: ignore[no-any-return]  # ships no types
        except ValueError as error:  # includes libjpeg's warnings, which Pillow ignores
            if lost_jpeg_data(str(error), content):
                raise DecodeError(f"the JPEG is damaged, and some of its pixels would be wrong: {error}") from error
            # a damaged header or an unusual JPEG, which Pillow may be able to decode
    image = load_image(content, max_pixels)
    with image:
        _check_depth(image)
        image.info.pop("transparency", None)  # has no effect on RGB, and Pillow warns about some kinds of it
        try:
            return _rgb_array(image)
        except (OSError, ValueError) as error:  # Pillow cannot convert premultiplied alpha, and older Pillow not LAB
            raise DecodeError(f"cannot decode the image: {error}") from error


def decode_mask(content: Buffer, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
    """Return the label ids of a single-channel label map; for palette images, the palette indices.

    Every checksum in the file is verified first, because a wrong label id would go unnoticed.

    Returns:
        uint8 [height, width], or int32 if the file has 16 bits.

    Raises:
        DecodeError: the label map is damaged, lossy or larger than `max_pixels`, or has several channels.
    """
    if content[:3] == JPEG_SIGNATURE:
        raise DecodeError("the mask is a JPEG, which is lossy and changes label ids; save label maps as PNG")
    check_integrity(content)
    image = load_image(content, max_pixels)
    with image:
        if image.mode in ("L", "P"):
            return _array(image) // _gray_step(content)
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode.startswith("I"):
            return np.asarray(image).astype(np.int32)
        raise DecodeError(f"the mask has mode {image.mode}; label maps have one channel (modes L, P, 1 or I;16)")


def _check_depth(image: ImageFile.ImageFile) -> None:
    """Raise DecodeError if an image has gray values that ``convert("RGB")`` would clip to 0..255."""
    if image.mode == "F" or image.mode.startswith("I"):
        low, high = cast(tuple[float, float], image.getextrema())
        if image.mode == "F" or low < 0 or high > 255:
            raise DecodeError(
                f"the image has gray values from {low} to {high}, which 8 bits would clip; convert them when packing, "
                "with --to-8bit scale, window=LOW,HIGH or clip"
            )


def _gray_step(content: Buffer) -> int:
    """Return the factor by which Pillow multiplies a PNG's gray values of two or four bits, so that they reach 255."""
    is_gray_png = content[:4] == b"\x89PNG" and content[25] == 0  # PNG 3, 11.2.1: bit depth and colour type
    return {2: 85, 4: 17}.get(content[24], 1) if is_gray_png else 1


def load_image(content: Buffer, max_pixels: int = MAX_PIXELS) -> ImageFile.ImageFile:
    """Return an encoded image as a Pillow image in the mode of the file, with its pixels decoded.

    Raises:
        ConfigError: the format needs a package that is not installed.
        DecodeError: the image is damaged, cut off or too large, or the content is not an image.
    """
    try:
        image = open_image(content)
        _check_pixels(*image.size, max_pixels)
        image.load()
    except (ConfigError, DecodeError, MemoryError):
        raise
    except Exception as error:  # for damaged files, Pillow raises TypeError, KeyError, struct.error and more
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = f"unknown format, {len(content)} bytes that begin with {bytes(content[:8])!r}"
        raise DecodeError(f"cannot decode the image: {reason}") from error
    return image


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise DecodeError(f"the image has {width} x {height} pixels, at most {most:,} are accepted (max_pixels)")
    budget.take(width * height)


def _array(image: Image.Image) -> npt.NDArray[np.uint8]:
    # np.array copies: Pillow's array interface gives read-only memory, and torch warns about such memory
    return np.array(image, dtype=np.uint8)


def _rgb_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the image as RGB. A large image is converted in bands, which saves memory."""
    if image.width * image.height < COUNTED_FROM:
        return _array(image.convert("RGB"))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _array(image.crop((0, top, image.width, bottom)).convert("RGB"))
    return pixels
