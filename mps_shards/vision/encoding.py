"""Reading of image headers, and re-encoding of images, optionally turned upright, resized or in another format."""

import io
import struct
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mps_shards.errors import ConfigError, DataError, DecodeError
from mps_shards.vision.decoding import MAX_PIXELS, image_size
from mps_shards.vision.image_files import JPEG_SIGNATURE, open_image
from mps_shards.vision.jpeg_segments import plain_jpeg_header
from mps_shards.vision.rgb_conversion import NO_CONVERSION, Loss, RgbConversion, losses_of

__all__ = ["Header", "Size", "encoded_anew", "read_header", "turned", "turned_size"]

Size: TypeAlias = tuple[int, int]  # height, width


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        format: ``"jpeg"``, ``"png"``, … by content, not by name.
        mode: Pillow's name of the pixel format.
        size: height and width as `decode_image` returns them, without the EXIF orientation.
        orientation: EXIF orientation, 1 to 8; 1 if the file has none.
        profile: ICC profile of RGB colours; empty if the file has none, or a profile of other colours.
        losses: possible losses of a conversion to 8-bit RGB.
    """

    format: str
    mode: str
    size: Size
    orientation: int
    profile: bytes
    losses: tuple[Loss, ...] = ()


def read_header(content: bytes) -> Header:
    """Return the header of an encoded image, without decoding pixels.

    Raises:
        ConfigError: the format needs a package that is not installed.
        DecodeError: the content is not an image, or its header is damaged.
    """
    if content[:3] == JPEG_SIGNATURE and (plain := plain_jpeg_header(content)):
        mode, height, width = plain
        if height * width <= MAX_PIXELS // 2:  # Pillow warns about larger images
            return Header("jpeg", mode, (height, width), 1, b"")
    try:
        with open_image(content) as image:
            # MPO is a JPEG with further pictures after the first, as phones write; libjpeg reads the first picture
            name = "jpeg" if image.format == "MPO" else str(image.format).lower()
            profile = image.info.get("icc_profile") or b""
            if profile[16:20] != b"RGB ":  # ICC.1:2022, 7.2: colour space of the profile; stored images are RGB
                profile = b""
            shape = (image.height, image.width)
            return Header(name, image.mode, shape, _orientation(image), profile, losses_of(image))
    except ConfigError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        if (size := image_size(content)) is not None:
            return Header("jpeg", "RGB", size, 1, b"")  # only metadata are damaged, which decoding ignores
        reason = "its format is unknown" if isinstance(error, UnidentifiedImageError) else error
        raise DecodeError(f"cannot read the image's header: {reason}") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow applies the orientation of a TIFF when it decodes the pixels
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(Base.Orientation, 1)
    except (ValueError, SyntaxError, TypeError, LookupError, struct.error):
        return 1  # the metadata are damaged, but the pixels may be intact
    return value if value in range(1, 9) else 1


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a view of pixels [height, width, …] that shows an image with this EXIF orientation upright."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def turned_size(size: Size, orientation: int) -> Size:
    """Return the height and width of the result of `turned`, for an image of this height and width."""
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
    """Decode, turn, resize and encode an image file. Equal arguments give equal bytes.

    `conversion` converts the pixels to RGB; by default they are those of `decode_image`, without transparency and
    further frames. Pillow's Lanczos filter resizes them. An ICC profile of RGB colours is kept, and so is an EXIF
    orientation that is not applied; other metadata are dropped.

    Args:
        content: the encoded image.
        header: result of `read_header` for this image.
        turn: EXIF orientation to apply; 1 for none.
        size: height and width of the result, after turning.
        kind: "jpeg", "webp" (lossy) or "png".
        quality: quality of JPEG and WebP, 1 to 100.
        conversion: options for converting the pixels to 8-bit RGB.

    Raises:
        DecodeError: the image cannot be decoded.
        DataError: the result would be too large for the loader or for the format.
    """
    height, width = size
    if height * width > MAX_PIXELS:
        raise DataError(
            f"the resized image would have {width} x {height} pixels, but at most {MAX_PIXELS:,} pixels can be read"
        )
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
