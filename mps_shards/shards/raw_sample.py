"""A sample before decoding: its key and its encoded fields."""

from dataclasses import dataclass, field
from typing import TypeAlias

from mps_shards.errors import DecodeError

__all__ = ["IMAGE_FIELDS", "MASK_FIELD", "Buffer", "RawSample"]

Buffer: TypeAlias = bytes | memoryview

# Extensions of image files, which are also the field names in shards, in order of preference. HEIC and JPEG XL need
# optional packages; without its package, such a file is an error that names the package.
IMAGE_FIELDS = (
    *("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff", "gif"),
    *("jfif", "avif", "heic", "heif", "jxl"),
)
MASK_FIELD = "mask.png"


@dataclass(slots=True, kw_only=True)  # not frozen, which would take twice the time for each sample
class RawSample:
    """The members of a tar that share a key.

    Attributes:
        key: the sample's name within its shard set.
        shard: name of the tar file that holds the sample, for messages.
        fields: encoded contents by field name (``jpg``, ``cls``, ``mask.png``), in the tar's order. The values
            may be views into one shared buffer: keep the sample rather than the views.
    """

    key: str
    shard: str
    fields: dict[str, Buffer] = field(repr=False)

    def __str__(self) -> str:
        """Return the name of the sample for messages."""
        return f"sample {self.key!r} of shard {self.shard}"

    def listed_fields(self) -> str:
        """Return the names of the fields, for messages."""
        return ", ".join(self.fields) or "nothing"

    def image(self) -> tuple[str, Buffer]:
        """Return the field name and the encoded bytes of the image.

        Raises:
            DecodeError: the sample has no image, or more than one.
        """
        names = [name for name in self.fields if name in IMAGE_FIELDS]
        if len(names) != 1:
            count = "no image" if not names else f"{len(names)} images"
            raise DecodeError(f"{self} holds {count} (fields: {self.listed_fields()})")
        return names[0], self.fields[names[0]]

    def label(self) -> int:
        """Return the class index in the field ``cls`` (ASCII digits), or -1 for a sample without this field.

        torchvision's STL10 uses -1 for its unlabelled samples, too.

        Raises:
            DecodeError: ``cls`` is not a whole number of at least 0.
        """
        content = self.fields.get("cls")
        if content is None:
            return -1
        text = bytes(content).strip()
        if not text.isdigit() or len(text) > 18:
            raise DecodeError(f"{self}: label {text[:40]!r} is not a class number")
        return int(text)
