"""Recognition of image formats by their first bytes."""

__all__ = ["extension_of"]

_EXTENSIONS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"\xff\x0a": "jxl",
    b"\0\0\0\x0cJXL ": "jxl",
}


def extension_of(head: bytes) -> str:
    """Return ``"jpg"``, ``"png"`` and so on for the first 12 bytes of an image; "jpg" for anything else."""
    if head[4:8] == b"ftyp":
        return "avif" if head[8:12] in (b"avif", b"avis") else "heic"
    return next((extension for start, extension in _EXTENSIONS.items() if head.startswith(start)), "jpg")
