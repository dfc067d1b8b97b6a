"""Verification of the checksums and sizes stored in an encoded image, without decoding its pixels.

Decoders check less. Pillow 12 ignores the CRC-32 of PNG chunks that hold pixels: of 1,500 bits that were flipped one at
a time in small label maps, 246 changed label ids without an error. JPEG has no checksums; `decode_image` reports the
damage that its decoder notices.
"""

import zlib

from mps_shards.errors import DecodeError
from mps_shards.shards.raw_sample import Buffer
from mps_shards.vision.png_metadata import PNG_SIGNATURE

__all__ = ["check_integrity", "lost_jpeg_data"]

_CORRUPT, _EXTRANEOUS = "Corrupt JPEG data: ", " extraneous bytes before marker 0x"  # libjpeg's jerror.h


def check_integrity(content: Buffer) -> None:
    """Verify the CRC-32 of every chunk of a PNG, and the chunk sizes of a WebP. Other formats are not checked.

    Raises:
        DecodeError: the file is damaged or cut off.
    """
    if content[:8] == PNG_SIGNATURE:
        _check_png(memoryview(content))
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        _check_webp(memoryview(content))


def _check_png(content: memoryview) -> None:
    position, total = 8, len(content)
    while position + 12 <= total:
        size = int.from_bytes(content[position : position + 4], "big")
        stop = position + 12 + size
        if stop > total:
            break
        kind = bytes(content[position + 4 : position + 8])
        if zlib.crc32(content[position + 4 : stop - 4]) != int.from_bytes(content[stop - 4 : stop], "big"):
            name = kind.decode("ascii", "replace")
            raise DecodeError(f"the PNG is damaged: its chunk {name!r} at byte {position} has a wrong CRC-32")
        if kind == b"IEND":
            return
        position = stop
    raise DecodeError(f"the PNG is damaged or cut off: its {total} bytes contain no end chunk (IEND)")


def _check_webp(content: memoryview) -> None:
    """Check that the chunks, each padded to an even size, fill the size that the header states (RFC 9649, 2.3)."""
    stated = int.from_bytes(content[4:8], "little") + 8
    if stated > len(content):
        raise DecodeError(
            f"the WebP is damaged or cut off: it has {len(content)} bytes, but its header states {stated}"
        )
    position = 12
    while position + 8 <= stated:
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    if position != stated:
        raise DecodeError(f"the WebP is damaged: its chunks end at byte {position}, but its header states {stated}")


def lost_jpeg_data(warning: str, content: Buffer) -> bool:
    """Whether a warning of libjpeg about a decoded image means that some pixels are wrong.

    libjpeg also warns about bytes that remain after the last pixel. They mean that the decoder has read wrong data,
    unless they are padding: one byte, repeated.
    """
    if not warning.startswith(_CORRUPT):
        return False
    count, found, marker = warning.removeprefix(_CORRUPT).partition(_EXTRANEOUS)
    if not found:
        return True
    data, end = bytes(content), bytes((0xFF, int(marker[:2], 16)))
    place = data.find(end)
    while place >= 0:
        if place >= int(count) and len(set(data[place - int(count) : place])) == 1:
            return False
        place = data.find(end, place + 1)
    return True
