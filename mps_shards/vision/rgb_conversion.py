"""Detection of losses in the conversion of an image to 8-bit RGB, and options that state how to convert it.

Pillow's ``convert("RGB")`` clips 16-bit and float values to 0..255, and shows the colours under transparent pixels.
This package does either of them only if an option asks for it.
"""

import sys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageFile, TiffImagePlugin

from mps_shards.errors import ConfigError, DataError, DecodeError
from mps_shards.shards.raw_sample import Buffer
from mps_shards.vision.decoding import decode_image, load_image
from mps_shards.vision.image_files import JPEG_SIGNATURE, open_image

__all__ = ["NO_CONVERSION", "Loss", "RgbConversion", "changes_to_rgb", "losses_of"]

LossKind: TypeAlias = Literal["depth", "alpha", "channels"]
Pixels: TypeAlias = npt.NDArray[np.uint8]


class Loss(NamedTuple):
    """A property of an image that 8-bit RGB cannot hold.

    Attributes:
        kind: "depth" for more than 8 bits or floats, "alpha" for transparency, "channels" for a fourth channel that is
            not transparency.
        words: description of the property, as in "16-bit gray values".
    """

    kind: LossKind
    words: str


def losses_of(image: ImageFile.ImageFile) -> tuple[Loss, ...]:
    """Return the losses that a conversion of an opened image to 8-bit RGB may have, judged by its header alone."""
    losses = []
    if depth := _depth(image):
        losses.append(Loss("depth", depth))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        losses.append(Loss("alpha", "an alpha channel" if image.mode[-1] in "Aa" else "transparent colours"))
    elif image.format == "TIFF":
        samples = getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        if samples > len(image.getbands()):
            losses.append(Loss("channels", f"{samples} channels, of which RGB holds {len(image.getbands())}"))
    return tuple(losses)


def changes_to_rgb(content: Buffer) -> tuple[Loss, ...]:
    """Return the losses that a conversion of an image file to 8-bit RGB has; empty if every pixel keeps its value.

    An opaque alpha channel is no loss. To find out, images with an alpha channel are decoded, and no others.

    Raises:
        ConfigError: the format needs a package that is not installed.
        DecodeError: the image cannot be decoded.
    """
    if content[:3] == JPEG_SIGNATURE:
        return ()
    try:
        with open_image(content) as image:
            losses = losses_of(image)
    except (ConfigError, DecodeError):
        raise
    except Exception as error:  # for damaged files, Pillow raises exceptions of many types
        raise DecodeError(f"cannot read the image's header: {error}") from error
    return tuple(loss for loss in losses if loss.kind != "alpha" or not _is_opaque(load_image(content)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RgbConversion:
    """Options for converting images to 8-bit RGB that lose information; without them, such images are refused.

    Attributes:
        to_8bit: conversion of 16-bit and float images. "scale" maps the range of values of each file to 0..255,
            "window=LOW,HIGH" maps LOW..HIGH to 0..255, and "clip" clips values to 0..255.
        background: colour to put behind transparent pixels, a name or ``#rrggbb``.
        drop_alpha: leave out transparency and other fourth channels, and keep the RGB values of the file.
    """

    to_8bit: str | None = None
    background: str | None = None
    drop_alpha: bool = False

    def __post_init__(self) -> None:
        if self.to_8bit is not None and self.to_8bit not in ("scale", "clip"):
            self._window()
        if self.background is not None:
            if self.drop_alpha:
                raise ConfigError("a background colour needs the alpha channel: give a background, or drop alpha")
            self._colour()

    def __bool__(self) -> bool:
        return self != NO_CONVERSION

    def alters(self, content: bytes, losses: tuple[Loss, ...], *, looks: bool) -> bool:
        """Whether the image must be encoded again as 8-bit RGB.

        Args:
            content: the encoded image.
            losses: result of `losses_of` for this image.
            looks: decode images with an alpha channel to see whether a pixel is transparent. Otherwise such images
                count as opaque, unless a background is given.

        Raises:
            DataError: the image would lose something, and no option says how to convert it.
            DecodeError: the image cannot be decoded.
        """
        alters = False
        for loss in losses:
            if loss.kind == "depth":
                if self.to_8bit is None:
                    raise DataError(
                        f"the image has {loss.words}, and training gets 8 bits; say how to convert it: --to-8bit scale "
                        "(by each file's own range), window=LOW,HIGH or clip"
                    )
                alters = True
            elif self.drop_alpha:
                continue
            elif loss.kind == "channels":
                raise DataError(f"the image has {loss.words}; --drop-alpha leaves the fourth channel out")
            elif (looks or self.background is not None) and not _is_opaque(load_image(content)):
                if self.background is None:
                    raise DataError(
                        f"the image has {loss.words} with transparent pixels, and training gets RGB; give the colour "
                        "behind these pixels with --background COLOUR, or keep their own colours with --drop-alpha"
                    )
                alters = True
        return alters

    def pixels(self, content: bytes, losses: tuple[Loss, ...]) -> Pixels:
        """Return the converted pixels of an image file: uint8 [height, width, 3], or [height, width] for deep gray.

        Raises:
            DecodeError: the image cannot be decoded, or its values cannot be converted.
        """
        kinds = {loss.kind for loss in losses}
        deep = "depth" in kinds and self.to_8bit is not None
        if not deep and not (self.background is not None and "alpha" in kinds):
            return decode_image(content)
        image = load_image(content)
        if not deep:
            return self._over_background(image.convert("RGBA"))
        values = _deep_values(content, image)
        alpha = values.shape[2:] == (4,)
        colours = self._to_8bit(values[..., :3] if alpha else values)
        if alpha and self.background is not None:
            opacity = (values[..., 3:] >> 8).astype(np.uint8)
            return self._over_background(Image.fromarray(np.concatenate([colours, opacity], axis=2)))
        return colours

    def recorded(self) -> dict[str, str | bool]:
        """Return the options that differ from their defaults, for a manifest."""
        given = {"to_8bit": self.to_8bit, "background": self.background, "drop_alpha": self.drop_alpha}
        return {name: value for name, value in given.items() if value}

    def _window(self) -> tuple[float, float]:
        name, _, bounds = (self.to_8bit or "").partition("=")
        try:
            low, high = map(float, bounds.split(","))
        except ValueError:
            low = high = 0.0
        if name != "window" or not low < high or not np.isfinite([low, high]).all():
            raise ConfigError(
                f"to_8bit must be scale, clip or window=LOW,HIGH (such as window=0,4095), not {self.to_8bit!r}"
            )
        return low, high

    def _colour(self) -> tuple[int, int, int]:
        try:
            red, green, blue = ImageColor.getrgb(self.background or "")[:3]
        except ValueError as error:
            raise ConfigError(
                f"{self.background!r} is not a colour; give a name or #rrggbb, such as white or #808080"
            ) from error
        return red, green, blue

    def _over_background(self, image: Image.Image) -> Pixels:
        behind = Image.new("RGBA", image.size, (*self._colour(), 255))
        return np.array(Image.alpha_composite(behind, image).convert("RGB"))

    def _to_8bit(self, values: npt.NDArray[Any]) -> Pixels:
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise DecodeError("the image holds values that are NaN or infinite, which 8 bits cannot show")
        if self.to_8bit == "clip":
            low, high = 0.0, 255.0
        elif self.to_8bit == "scale":
            low, high = float(values.min()), float(values.max())
        else:
            low, high = self._window()
        scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
        return np.rint(scaled).clip(0, 255).astype(np.uint8)


NO_CONVERSION = RgbConversion()


def _depth(image: ImageFile.ImageFile) -> str:
    """Return a description of an image's values if they need more than 8 bits; otherwise an empty string."""
    if image.mode == "F":
        return "float values"
    if image.mode == "I":
        return "integer values of more than 8 bits"
    if image.mode.startswith("I;"):
        return "16-bit values"
    rawmode = _rawmode(image)
    if ";16" in rawmode:
        return "16-bit colour values"
    # For PPM files with a maximum other than 255, Pillow uses the codecs "ppm" and "ppm_plain", and passes the maximum
    # as their last argument.
    tile = image.tile[0] if image.format == "PPM" and image.tile else None
    if tile is not None and tile.codec_name in ("ppm", "ppm_plain") and _ppm_maximum(tile.args) > 255:
        return "16-bit colour values"
    return ""


def _rawmode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's raw mode of an image, such as "RGB;16B" for 16-bit colours, of which Pillow keeps 8 bits."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _ppm_maximum(args: Any) -> int:
    last = args[-1] if isinstance(args, tuple) and args else args
    return last if isinstance(last, int) else 0


def _is_opaque(image: Image.Image) -> bool:
    """Whether no pixel of a loaded image is transparent."""
    if image.mode not in ("RGBA", "LA"):
        image = image.convert(
            "RGBA"
        )  # for palettes with transparency, single transparent colours, and premultiplied alpha
    least, _ = image.getchannel("A").getextrema()
    return bool(least == 255)


def _deep_values(content: bytes, image: Image.Image) -> npt.NDArray[Any]:
    """Return all bits of a deep image: gray [height, width], or uint16 colours [height, width, 3 or 4]."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    opened = open_image(content)
    rawmode = _rawmode(opened)
    native = "16L" if sys.byteorder == "little" else "16B"
    base, _, order = rawmode.partition(";")
    order = native if order == "16N" else order
    if base not in ("RGB", "RGBA", "RGBX") or order not in ("16L", "16B"):
        raise DecodeError(
            f"Pillow does not read the lower bits of this image's 16-bit values ({rawmode or opened.format}); save it "
            "as a 16-bit gray or RGB PNG"
        )
    # Pillow keeps the upper byte of each value; with the swapped byte order, it keeps the lower byte.
    swapped = f"{base};{'16B' if order == '16L' else '16L'}"
    opened.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in opened.tile
    ]
    opened.load()
    upper, lower = np.asarray(image).astype(np.uint16), np.asarray(opened).astype(np.uint16)
    return upper << 8 | lower
