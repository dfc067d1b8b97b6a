"""Small real image files of every supported kind, and the tensors that they must become."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import simplejpeg
import torch
from PIL import Image, features
from torchvision.transforms.functional import to_tensor

from tools.support.pictures import encoded, picture, pixels, turbo


def expected(content: bytes) -> torch.Tensor:
    """Return the tensor that an image must become.

    Returns:
        float32 (3, height, width), RGB, 0..1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # palettes with a transparency of several entries
        with Image.open(io.BytesIO(content)) as image:
            tensor: torch.Tensor = to_tensor(image.convert("RGB"))
            return tensor


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write a folder with these files, given by relative path."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tiny_jpeg(seed: int = 0, *, side: int = 8) -> bytes:
    """Return a valid JPEG of a few hundred bytes that depends on the seed."""
    return bytes(simplejpeg.encode_jpeg(pixels(side, side, seed=seed), 80, "RGB", "420"))


def class_folders(folder: Path, *, classes: int = 3, each: int = 4) -> dict[str, tuple[bytes, int]]:
    """Write ``class-0/00.jpg`` and so on, and return contents and labels by key."""
    samples = {}
    for label in range(classes):
        for number in range(each):
            content = tiny_jpeg(seed=label * each + number)
            write(folder, {f"class-{label}/{number:02d}.jpg": content})
            samples[f"class-{label}/{number:02d}"] = (content, label)
    return samples


_EXIF_ROTATED = Image.Exif()
_EXIF_ROTATED[0x0112] = 6  # EXIF orientation 6: rotated by 90 degrees

# Content by file name; all these files must be decoded exactly as Pillow does.
EXAMPLES: dict[str, Callable[[], bytes]] = {
    "rgb.jpg": lambda: encoded(picture("RGB"), "JPEG"),
    "gray.jpg": lambda: encoded(picture("L"), "JPEG"),
    "progressive.jpg": lambda: encoded(picture("RGB"), "JPEG", progressive=True, quality=60),
    "progressive-gray.jpeg": lambda: encoded(picture("L"), "JPEG", progressive=True),
    "optimized.jpg": lambda: encoded(picture("RGB"), "JPEG", optimize=True, quality=98),
    "coarse.jpg": lambda: encoded(picture("RGB"), "JPEG", quality=5),
    "444.jpg": lambda: turbo("RGB", "444"),
    "422.jpg": lambda: turbo("RGB", "422"),
    "420.jpg": lambda: turbo("RGB", "420"),
    "440.jpg": lambda: turbo("RGB", "440"),
    "411.jpg": lambda: turbo("RGB", "411"),
    "gray-of-colour.jpg": lambda: turbo("RGB", "Gray"),
    "one-pixel.jpg": lambda: turbo("RGB", "420", height=1, width=1),
    "one-column.jpg": lambda: turbo("RGB", "420", height=31, width=1),
    "restarts-by-block.jpg": lambda: encoded(picture("RGB"), "JPEG", restart_marker_blocks=1),
    "restarts-by-row.jpg": lambda: encoded(picture("RGB"), "JPEG", restart_marker_rows=1, progressive=True),
    "kept-rgb.jpg": lambda: encoded(picture("RGB"), "JPEG", keep_rgb=True),
    "cmyk.jpg": lambda: encoded(picture("CMYK"), "JPEG"),
    "ycck.jpg": lambda: turbo("CMYK", "420"),
    "rotated.jpg": lambda: encoded(picture("RGB"), "JPEG", exif=_EXIF_ROTATED),
    "commented.jpg": lambda: encoded(picture("RGB"), "JPEG", comment=b"a \xff\xd8\xff comment", dpi=(72, 72)),
    "rgb.png": lambda: encoded(picture("RGB"), "PNG"),
    "gray.png": lambda: encoded(picture("L"), "PNG"),
    "gray-alpha.png": lambda: encoded(picture("LA"), "PNG"),
    "rgba.png": lambda: encoded(picture("RGBA"), "PNG"),
    "one-bit.png": lambda: encoded(picture("1"), "PNG"),
    "sixteen-bit.png": lambda: encoded(picture("I;16"), "PNG"),
    "palette.png": lambda: encoded(picture("P"), "PNG"),
    "palette-one-transparent.png": lambda: encoded(picture("P"), "PNG", transparency=3),
    "palette-translucent.png": lambda: encoded(picture("P"), "PNG", transparency=bytes(range(0, 250, 5))),
    "two-bit-palette.png": lambda: encoded(picture("RGB").quantize(4), "PNG", bits=2),
    "gray-one-transparent.png": lambda: encoded(picture("L"), "PNG", transparency=7),
    "rotated.png": lambda: encoded(picture("RGB"), "PNG", exif=_EXIF_ROTATED),
    "lossy.webp": lambda: encoded(picture("RGB"), "WEBP", quality=70),
    "lossless.webp": lambda: encoded(picture("RGB"), "WEBP", lossless=True),
    "alpha.webp": lambda: encoded(picture("RGBA"), "WEBP"),
    "lossless-alpha.webp": lambda: encoded(picture("RGBA"), "WEBP", lossless=True, exact=True),
    "palette.gif": lambda: encoded(picture("P"), "GIF"),
    "gray.gif": lambda: encoded(picture("L"), "GIF"),
    "transparent.gif": lambda: encoded(picture("P"), "GIF", transparency=3),
    "moving.gif": lambda: encoded(
        picture("P"), "GIF", save_all=True, append_images=[picture("P", seed=1), picture("P", seed=2)]
    ),
    "rgb.bmp": lambda: encoded(picture("RGB"), "BMP"),
    "one-bit.bmp": lambda: encoded(picture("1"), "BMP"),
    "rgb.tif": lambda: encoded(picture("RGB"), "TIFF"),
    "packed.tiff": lambda: encoded(picture("RGB"), "TIFF", compression="tiff_lzw"),
    "cmyk.tif": lambda: encoded(picture("CMYK"), "TIFF"),
    "jpeg-inside.tif": lambda: encoded(picture("RGB"), "TIFF", compression="jpeg"),
    "fax.tif": lambda: encoded(picture("1"), "TIFF", compression="group4"),
    "sixteen-bit.tif": lambda: encoded(picture("I;16"), "TIFF"),
    "rgb.ppm": lambda: encoded(picture("RGB"), "PPM"),
    "gray.pgm": lambda: encoded(picture("L"), "PPM"),
    "a-png-named.jpg": lambda: encoded(picture("RGB"), "PNG"),
    "a-jpeg-named.png": lambda: encoded(picture("RGB"), "JPEG"),
    "a-webp-named.jpeg": lambda: encoded(picture("RGB"), "WEBP"),
    "Shouted.JPG": lambda: encoded(picture("RGB"), "JPEG"),
    "from-a-browser.jfif": lambda: encoded(picture("RGB"), "JPEG"),
}
if features.check("avif"):
    EXAMPLES |= {
        "rgb.avif": lambda: encoded(picture("RGB"), "AVIF", quality=80),
        "alpha.avif": lambda: encoded(picture("RGBA"), "AVIF"),
        "an-avif-named.jpg": lambda: encoded(picture("RGB"), "AVIF"),
    }

DEEP = ("sixteen-bit.png", "sixteen-bit.tif")  # their values do not fit into 8 bits

# Files that are packed unchanged with drop_alpha, which keeps the colours under transparent pixels.
PACKED_AS_IT_IS = {name: make for name, make in EXAMPLES.items() if name not in DEEP}
