"""Opening of encoded images: the formats of Pillow, and HEIC and JPEG XL through optional packages.

The format is recognised by the content of a file, not by its name.
"""

import io
from typing import Any

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.raw_sample import Buffer
from mps_shards.vision.png_metadata import PNG_SIGNATURE

__all__ = ["FORMATS", "JPEG_SIGNATURE", "MAX_PIXELS", "begins_like_image", "has_frames", "open_image"]

# Pillow raises DecompressionBombError above this number of pixels, which is twice Image.MAX_IMAGE_PIXELS.
MAX_PIXELS = 178_956_970

# Pillow's names of the formats that are read. With all of its formats, Pillow would run Ghostscript for PostScript.
FORMATS = ("JPEG", "PNG", "WEBP", "PPM", "BMP", "TIFF", "GIF", "AVIF")

JPEG_SIGNATURE = b"\xff\xd8\xff"  # start of the image, and the first byte of the next marker
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (JPEG_SIGNATURE, PNG_SIGNATURE, b"RIFF", b"GIF8", b"BM", *_TIFF)
_PNM = tuple(b"P%d" % kind + space for kind in range(1, 8) for space in (b"\n", b" ", b"\r", b"\t"))
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")  # ISO/IEC 18181-2: a bare codestream, and a codestream in boxes
# Brands of ISO/IEC 23008-12 for images encoded as HEVC; "mif1" and "msf1" allow any codec, and AVIF files list them too
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def begins_like_image(content: Buffer) -> bool:
    """Whether the first bytes are those of a supported format."""
    head = bytes(content[:16])
    return head.startswith(_SIGNATURES + _PNM + _JXL) or _brand(content) in _HEIC_BRANDS + _AVIF_BRANDS


def open_image(content: Buffer) -> ImageFile.ImageFile:
    """Open an image: read its header, but do not decode its pixels.

    Raises:
        ConfigError: the format needs a package that is not installed; the message names the extra.
        DecodeError: the image has more than `MAX_PIXELS` pixels, or more than four channels.
        UnidentifiedImageError: the format of the content is unknown.
        Exception: the file is damaged; Pillow's parsers raise exceptions of many types.
    """
    if content[:3] != JPEG_SIGNATURE:  # JPEG, the most common format, needs none of these checks
        if _is_heic(content):
            return _heic(content)
        if bytes(content[:12]).startswith(_JXL):
            return _jxl(content)
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)  # Pillow warns from half of MAX_PIXELS on
    except UnidentifiedImageError:
        channels = _tiff_channels(content)
        if channels > 4:
            raise DecodeError(
                f"the image has {channels} channels; images have at most four (RGB and alpha). Save the three channels "
                "to train on as a separate image"
            ) from None
        raise


def has_frames(content: Buffer) -> bool:
    """Whether an image file holds more than one frame or page; False if its header cannot be read."""
    try:
        with open_image(content) as image:
            return int(getattr(image, "n_frames", 1)) > 1
    except Exception:  # Pillow raises exceptions of many types for damaged files; decoding the image reports the damage
        return False


def _brand(content: Buffer) -> bytes:
    """Return the major brand of a file with boxes of ISO/IEC 14496-12; empty for other files."""
    return bytes(content[8:12]) if content[4:8] == b"ftyp" else b""


def _is_heic(content: Buffer) -> bool:
    brand = _brand(content)
    if brand in (b"mif1", b"msf1"):  # these brands allow any codec; the compatible brands, which follow, name the codec
        return not any(each in bytes(content[16:64]) for each in _AVIF_BRANDS)
    return brand in _HEIC_BRANDS


def _heic(content: Buffer) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ConfigError(
            "a HEIC image needs the package pillow-heif: pip install 'mps-shards[heif]'; or save it as JPEG or PNG"
        ) from error
    opener: Any = HeifImageFile  # ships no types for it
    return _bounded(opener(io.BytesIO(content)))


def _jxl(content: Buffer) -> ImageFile.ImageFile:
    try:
        from pillow_jxl.JpegXLImagePlugin import JXLImageFile
    except ImportError as error:
        raise ConfigError(
            "a JPEG XL image needs the package pillow-jxl-plugin: pip install 'mps-shards[jxl]'; or save it as JPEG"
        ) from error
    return _bounded(JXLImageFile(io.BytesIO(content)))


def _bounded(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Check the number of pixels, as Image.open does for Pillow's own formats, and return the image."""
    if image.width * image.height > MAX_PIXELS:
        raise DecodeError(f"the image has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,} are accepted")
    return image


def _tiff_channels(content: Buffer) -> int:
    """Return the number of channels of a TIFF, even if Pillow cannot open it; 0 if it is damaged, or is no TIFF."""
    if not bytes(content[:4]).startswith(_TIFF):
        return 0
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(bytes(content[:8]))
        file = io.BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        return int(directory.get(TiffImagePlugin.SAMPLESPERPIXEL, 0))
    except Exception:  # Pillow raises exceptions of many types for damaged files, whose channels are not known
        return 0
