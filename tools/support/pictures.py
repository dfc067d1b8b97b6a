"""Small images with ramps, edges and noise, which show errors of decoders, and files of these images."""

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def pixels(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Pixels:
    """Return uint8 [height, width, channels] with ramps, edges and noise, which show errors of decoders."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [
        rows * (5 + i) + columns * (3 + 2 * i) + 40 * ((rows // 7 + columns // 5) % (2 + i)) for i in range(channels)
    ]
    picture = np.stack(waves, axis=-1) + rng.integers(0, 30, (height, width, channels))
    return (picture % 256).astype(np.uint8)


def picture(mode: str, height: int = 37, width: int = 53, *, seed: int = 0) -> Image.Image:
    """Return an image with a Pillow mode."""
    if mode == "I;16":
        return Image.fromarray(pixels(height, width, 2, seed=seed).view(np.uint16)[..., 0])
    if mode in ("1", "P"):
        return Image.fromarray(pixels(height, width, 3, seed=seed)).convert(mode)
    channels = len(Image.new(mode, (1, 1)).getbands())
    drawn = pixels(height, width, channels, seed=seed)
    return Image.frombytes(mode, (width, height), drawn.tobytes())


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of a file of the image, as Pillow writes it."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turbo(colorspace: str, subsampling: str, *, height: int = 37, width: int = 53, quality: int = 85) -> bytes:
    """Return a JPEG from libjpeg-turbo, which supports more subsamplings than Pillow and writes CMYK as YCCK."""
    channels = {"RGB": 3, "GRAY": 1, "CMYK": 4}[colorspace]
    return bytes(simplejpeg.encode_jpeg(pixels(height, width, channels), quality, colorspace, subsampling))
