"""Fuzz target: encoded images of every kind must be decoded as Pillow decodes them, or be refused."""

import contextlib
import io
import warnings
import zlib

import numpy as np
import simplejpeg
from PIL import Image

from mps_shards.errors import DecodeError
from mps_shards.vision import decoding as decode
from tools.fuzz.examples import encoded, picture

__all__ = ["MAX_PIXELS", "check", "seeds", "with_crcs"]

MAX_PIXELS = 1 << 20  # low, so that a decoder that ignores the limit is noticed by its memory

_PNG = b"\x89PNG\r\n\x1a\n"


def seeds() -> list[bytes]:
    """Return images of all supported formats, in modes that take different code paths."""
    noise = np.asarray(picture("RGB"))
    found = [simplejpeg.encode_jpeg(noise, 60, "RGB", kind) for kind in ("444", "422", "420", "440", "411", "Gray")]
    found += [encoded(mode, "JPEG", progressive=progressive) for mode in ("L", "CMYK") for progressive in (False, True)]
    found += [encoded("RGB", "JPEG", keep_rgb=True, restart_marker_blocks=1)]
    found += [encoded(mode, "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")]
    found += [encoded("P", "PNG", transparency=bytes(range(40))), encoded("L", "PNG", transparency=3)]
    found += [encoded("RGB", kind) for kind in ("WEBP", "BMP", "TIFF", "PPM", "GIF")]
    found += [encoded("RGB", "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")]
    found += [encoded("RGBA", "WEBP", lossless=True), encoded("1", "TIFF", compression="group4")]
    found += [encoded("P", "GIF", save_all=True, append_images=[picture("P", seed=1)])]
    return found


def check(data: bytes) -> None:
    """Check an image, and for a PNG also the image with corrected checksums."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in {data, with_crcs(data)}:
            with contextlib.suppress(DecodeError):
                pixels = decode.decode_image(content, max_pixels=MAX_PIXELS)
                assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
                assert pixels.size <= 3 * MAX_PIXELS
                expected = _by_pillow(content)
                assert expected is None or np.array_equal(pixels, expected)
            size = decode.image_size(content)
            for factor in (2, 4, 8) if size is not None else ():
                with contextlib.suppress(DecodeError):
                    assert decode.decode_image(content, factor=factor, max_pixels=MAX_PIXELS).size <= 3 * MAX_PIXELS


def with_crcs(data: bytes) -> bytes:
    """Return a PNG with correct checksums in all chunks; other data is returned unchanged."""
    if not data.startswith(_PNG):
        return data
    content, start = bytearray(data), len(_PNG)
    while start + 12 <= len(content):
        stop = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if stop + 4 > len(content):
            break
        content[stop : stop + 4] = zlib.crc32(content[start + 4 : stop]).to_bytes(4, "big")
        start = stop + 4
    return bytes(content)


def _by_pillow(content: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            image.info.pop("transparency", None)
            return np.asarray(image.convert("RGB"))
    except Exception:  # defects of Pillow are not ours
        return None
