"""What an image's header says, and images encoded anew: turned upright, resized, in another format."""

import io
import struct
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mps_shards.errors import ConfigError, DataError, DecodeError
from mps_shards.vision.decoding import MAX_PIXELS, image_size
from mps_shards.vision.image_files import open_image
from mps_shards.vision.jpeg_segments import plain_jpeg_header
from mps_shards.vision.rgb_conversion import NO_CONVERSION, Loss, RgbConversion, losses_of

__all__ = ["Header", "Size", "encoded_anew", "read_header", "turned", "turned_size"]

Size: TypeAlias = tuple[int, int]  # height, width


class Header(NamedTuple):
    """What an image file says before its pixels.

    Attributes:
        format: ``"jpeg"``, ``"png"``, … by content, not by name.
        mode: Pillow's.
        size: as `decode_image` gives it, EXIF orientation not applied.
        orientation: EXIF's, 1 to 8; 1 where the file has none.
        profile: ICC profile of RGB colours; empty where there is none, or one of other colours.
        losses: what a conversion to 8-bit RGB may lose.
    """

    format: str
    mode: str
    size: Size
    orientation: int
    profile: bytes
    losses: tuple[Loss, ...] = ()


def read_header(content: bytes) -> Header:
    """The header of an encoded image; no pixel is decoded.

    Raises:
        ConfigError: the format needs a package that is not installed.
        DecodeError: no image, or a damaged header.
    """
    if content[:3] == b"\xff\xd8\xff" and (plain := plain_jpeg_header(content)):
        mode, height, width = plain
        if height * width <= MAX_PIXELS // 2:  # from where on Pillow warns
            return Header("jpeg", mode, (height, width), 1, b"")
    try:
        with open_image(content) as image:
            # phones' JPEGs with a second picture behind the first; libjpeg reads the first
            name = "jpeg" if image.format == "MPO" else str(image.format).lower()
            profile = image.info.get("icc_profile") or b""
            if profile[16:20] != b"RGB ":  # ICC.1:2022, 7.2: the colours that it describes; ours will be RGB
                profile = b""
            shape = (image.height, image.width)
            return Header(name, image.mode, shape, _orientation(image), profile, losses_of(image))
    except ConfigError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        if (size := image_size(content)) is not None:
            return Header("jpeg", "RGB", size, 1, b"")  # damaged metadata, which decoding passes over
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise DecodeError(f"cannot read the image's header: {reason}") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow itself turns these when it decodes
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(Base.Orientation, 1)
    except (ValueError, SyntaxError, TypeError, LookupError, struct.error):
        return 1  # damaged metadata of a picture that may well be whole
    return value if value in range(1, 9) else 1


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """A view of (height, width, …) as EXIF's `orientation` wants it shown."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def turned_size(size: Size, orientation: int) -> Size:
    """Height and width of what `turned` gives."""
    return (size[1], size[0]) if orientation > 4 else size


def encoded_anew(
    content: bytes,
    header: Header,
    *,
    turn: int,
    size: Size,
    kind: str,
    quality: int,
    conversion: RgbConversion = NO_CONVERSION,
) -> bytes:
    """An image file decoded, turned, resized and encoded. Equal arguments give equal bytes.

    The pixels are `conversion`'s, by default those of `decode_image`: transparency and further frames are gone. They
    are resized by Pillow's Lanczos filter in one step. Of the metadata, an ICC profile of RGB colours stays, and an
    EXIF orientation that is not applied.

    Args:
        turn: EXIF orientation to apply; 1 for none.
        size: of the result, turned.
        kind: "jpeg", "webp" (lossy) or "png".
        quality: 1 to 100, of JPEG and WebP.

    Raises:
        DecodeError: the image cannot be decoded.
        DataError: the result would be too large for the loader or for the format.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise DataError(f"resized, it would have {width} x {height} pixels; at most {MAX_PIXELS:,} can be read")
    image = Image.fromarray(np.ascontiguousarray(turned(conversion.pixels(content, header.losses), turn)))
    if size != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    metadata: dict[str, Any] = {"icc_profile": header.profile} if header.profile else {}
    if header.orientation != 1 and turn == 1:
        metadata["exif"] = Image.Exif()
        metadata["exif"][Base.Orientation] = header.orientation
    if kind != "png":
        metadata["quality"] = quality
    file = io.BytesIO()
    try:
        image.save(file, kind, **metadata)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot encode {width} x {height} pixels as {kind}: {error}") from error
    return file.getvalue()
