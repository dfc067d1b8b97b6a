"""Removal of metadata that is damaged or too long, so that decoders read a PNG whose pixels are intact."""

import zlib

from mps_shards.shards.raw_sample import Buffer

__all__ = ["PNG_SIGNATURE", "without_broken_metadata"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"  # PNG 3, 5.2
_MOST = 1 << 20  # bytes: Pillow's limit for one unpacked text or profile (PngImagePlugin.MAX_TEXT_CHUNK)
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")


def without_broken_metadata(content: Buffer) -> bytes:
    """Return a PNG without metadata chunks that are damaged or too long for decoders; b"" if there are none.

    Chunks that affect pixels are always kept. Their type begins with a capital letter, or is tRNS (PNG 3, 5.4).
    """
    if content[:8] != PNG_SIGNATURE:
        return b""
    kept, position, dropped = [bytes(content[:8])], 8, False
    while position + 12 <= len(content):
        stop = position + 12 + int.from_bytes(content[position : position + 4], "big")
        kind = bytes(content[position + 4 : position + 8])
        if stop > len(content):
            break
        is_metadata = kind[:1].islower() and kind not in (b"tRNS", b"acTL", b"fcTL", b"fdAT")
        if is_metadata and _is_broken(kind, memoryview(content)[position + 4 : stop]):
            dropped = True
        else:
            kept.append(bytes(content[position:stop]))
        position = stop
    return b"".join([*kept, bytes(content[position:])]) if dropped else b""


def _is_broken(kind: bytes, chunk: memoryview) -> bool:
    """Whether the checksum of a chunk (type, data, CRC-32) is wrong, or its unpacked text is too long for decoders."""
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return True
    if kind not in _TEXTS:
        return False
    if len(chunk) > _MOST:
        return True
    start = bytes(chunk[4:-4]).find(b"\0") + 2
    if kind in (b"zTXt", b"iCCP"):
        try:
            unpacker = zlib.decompressobj()
            unpacker.decompress(bytes(chunk[4 + start : -4]), _MOST)
            return bool(unpacker.unconsumed_tail)
        except zlib.error:
            return True
    return False
