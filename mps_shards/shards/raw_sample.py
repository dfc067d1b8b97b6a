"""One sample as it lies in a shard: a key and its encoded fields."""

from dataclasses import dataclass, field
from typing import TypeAlias

from mps_shards.errors import DecodeError

__all__ = ["IMAGE_FIELDS", "MASK_FIELD", "Buffer", "RawSample"]

Buffer: TypeAlias = bytes | memoryview

# Extensions that images carry in folders, and field names that they have in shards; looked up in this order. HEIC and
# JPEG XL need optional packages, so that they are still found, and named, where those are missing.
IMAGE_FIELDS = (
    *("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff", "gif"),
    *("jfif", "avif", "heic", "heif", "jxl"),
)
MASK_FIELD = "mask.png"


@dataclass(slots=True, kw_only=True)  # frozen would take twice the time, and one is made for each sample
class RawSample:
    """The members of a tar that share a key.

    Attributes:
        key: the sample's name within its shard set.
        shard: name of the tar file that it came from, for messages.
        fields: encoded contents by field name (``jpg``, ``cls``, ``mask.png``), in the tar's order. Views into one
            buffer where the sample came from one ranged read: hold the sample, not the views.
    """

    key: str
    shard: str
    fields: dict[str, Buffer] = field(repr=False)

    def image(self) -> tuple[str, Buffer]:
        """Field name and encoded bytes of the image.

        Raises:
            DecodeError: there is no image, or more than one.
        """
        names = [name for name in self.fields if name in IMAGE_FIELDS]
        if len(names) != 1:
            held = ", ".join(self.fields) or "nothing"
            count = "no image" if not names else f"{len(names)} images"
            raise DecodeError(f"sample {self.key!r} of shard {self.shard} holds {count} (fields: {held})")
        return names[0], self.fields[names[0]]

    def label(self) -> int:
        """Class number from the field ``cls`` (ASCII digits); -1 where the sample has none.

        -1 for "no label" is what torchvision's STL10 gives for its unlabelled part.

        Raises:
            DecodeError: ``cls`` is not a whole number from 0 up.
        """
        content = self.fields.get("cls")
        if content is None:
            return -1
        text = bytes(content).strip()
        if not text.isdigit() or len(text) > 18:
            raise DecodeError(f"sample {self.key!r} of shard {self.shard}: label {text[:40]!r} is no class number")
        return int(text)
