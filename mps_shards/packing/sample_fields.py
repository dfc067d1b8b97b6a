"""One source entry -> the encoded fields of its sample."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec

from mps_shards.errors import ConfigError, DataError, StorageError
from mps_shards.packing.palette import Palette
from mps_shards.packing.sources.listing import Entry, Listing
from mps_shards.shards.raw_sample import MASK_FIELD
from mps_shards.vision.decoding import decode_image
from mps_shards.vision.encoding import Header, Size, encoded_anew, read_header, turned, turned_size
from mps_shards.vision.image_files import begins_like_image
from mps_shards.vision.label_maps import (
    LabelIds,
    check_ids,
    check_size,
    drawn_ids,
    label_ids,
    label_map_bytes,
    label_map_size,
    resized,
)
from mps_shards.vision.rgb_conversion import NO_CONVERSION, RgbConversion

__all__ = ["NO_OPTIONS", "FieldOptions", "Fields", "Format", "fields_of", "settled"]

Format: TypeAlias = Literal["keep", "jpeg", "webp", "png"]

# Field names of each format that others read too. A .jfif is a JPEG, which most readers of shards know as jpg alone.
_EXTENSIONS = {"jpeg": ("jpg", "jpeg"), "webp": ("webp",), "png": ("png",)}
_QUALITY = 90  # FFCV's default too; fifteen photographs: 36.6 dB at 70 % of the bytes that 95 needs for 39.4 dB
_CROWD = 255  # what COCO's crowd regions become where no other label id is to be ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldOptions:
    """What is made of a source file on its way into a shard. Files that fit already stay as they are, to the byte.

    Attributes:
        max_size: pixels of the longer side at most; never enlarges.
        resize: pixels of the shorter side exactly.
        format: of images; "keep" leaves JPEG, PNG and WebP what they are where they must be encoded anew, and makes
            PNG of the rest.
        quality: 1 to 100, of what is encoded as JPEG or WebP; None is 90. Given together with a format, files that
            have that format already are encoded anew too.
        upright: apply the EXIF orientation to image and mask.
        conversion: how images that 8-bit RGB cannot hold are converted; by default they are refused.
        check: decode every image and mask, so that what could not be read later is refused now.
        palette: colours of RGB masks.
        classes: how many the set has; 0 where that is not known, then label ids of masks are not held against it.
        ignore_index: label id of masks that is no class.
    """

    max_size: int | None = None
    resize: int | None = None
    format: Format = "keep"
    quality: int | None = None
    upright: bool = False
    conversion: RgbConversion = NO_CONVERSION
    check: bool = True
    palette: Palette | None = None
    classes: int = 0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if self.max_size is not None and self.resize is not None:
            raise ConfigError("max_size bounds the longer side and resize sets the shorter: give one of them")
        for name, most in (("max_size", None), ("resize", None), ("quality", 100)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= (most or value):
                raise ConfigError(f"{name} must be {f'from 1 to {most}' if most else 'at least 1'}, not {value}")
        if self.format not in get_args(Format):
            raise ConfigError(f"format must be one of {', '.join(get_args(Format))}, not {self.format!r}")
        if self.ignore_index is not None and not 0 <= self.ignore_index < 1 << 16:
            raise ConfigError(f"ignore_index must be from 0 to 65535, as label ids are, not {self.ignore_index}")
        if self.quality is not None and (self.format == "png" or not self._alters):
            raise ConfigError(
                "quality is for images that are encoded anew, as JPEG or WebP: give a format, a size or upright too"
            )

    @property
    def looks(self) -> bool:
        """Whether an image is more than bytes to these options."""
        return self.check or self._alters

    @property
    def _alters(self) -> bool:
        return bool(self.max_size or self.resize or self.upright or self.format != "keep" or self.conversion)

    def size_of(self, size: Size) -> Size:
        """Height and width that an image of this height and width gets, rounded to the nearest pixel."""
        height, width = size
        base, goal = min(size), self.resize
        if self.max_size is not None and self.max_size < max(size):
            base, goal = max(size), self.max_size
        if goal is None:
            return size
        return max(1, (2 * height * goal + base) // (2 * base)), max(1, (2 * width * goal + base) // (2 * base))

    def recorded(self) -> dict[str, str | int | bool | None]:
        """What of these a manifest holds; the palette as a SHA-256 of its colours."""
        record = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        if self.palette is not None:
            record["palette"] = hashlib.sha256(msgspec.json.encode(self.palette.colours)).hexdigest()
        unrecorded = ("classes", "ignore_index", "conversion")
        kept = {name: value for name, value in record.items() if name not in unrecorded}
        return kept | self.conversion.recorded()  # only where it was asked for: other sets keep their bytes


NO_OPTIONS = FieldOptions()


def settled(listing: Listing, options: FieldOptions) -> tuple[Listing, FieldOptions]:
    """Both, agreed on the classes, the listing's or else the palette's, and on the label id that is none of them."""
    if all(split.task != "segmentation" for split in listing.splits):
        return listing, options
    palette, ignored = options.palette, options.ignore_index
    if ignored is None:
        ignored = listing.ignore_index
    if palette is not None and not listing.classes:
        listing = replace(listing, classes=palette.names)
        outside = {number for *_, number in palette.colours if number >= len(palette.names)}
        ignored = outside.pop() if ignored is None and palette.names and len(outside) == 1 else ignored
    options = replace(options, classes=len(listing.classes), ignore_index=ignored)
    return replace(listing, ignore_index=ignored), options


class Fields(NamedTuple):
    """What one sample is made of.

    Attributes:
        contents: encoded, by field name.
        rotated: viewers turn the image, by its EXIF orientation, which the loader does not apply. Only known where
            the image was looked at.
    """

    contents: dict[str, bytes]
    rotated: bool = False


def fields_of(source: Path, entry: Entry, options: FieldOptions) -> Fields:
    """The encoded fields of one sample.

    An untouched image's field keeps the case of its file's extension, so that unpacking gives the name back.

    Raises:
        ConfigError: something needed is not installed.
        DataError: the entry cannot become a sample; names the file and what to do.
        StorageError: a file cannot be read.
    """
    path = source / entry.path
    content = _image_bytes(path, entry.size)
    contents = {entry.path.rpartition(".")[2]: content}
    rotated = False
    if options.looks or entry.mask or entry.shapes or not content.startswith(b"\xff\xd8\xff"):  # JPEG loses nothing
        with _naming(path):
            frame = _frame(content, options)
            contents = _image(entry.path.rpartition(".")[2], content, frame, options)
            rotated = frame.header.orientation != 1 and frame.turn == 1
            if entry.shapes:
                contents[MASK_FIELD] = _drawn(entry.shapes, frame, options)
        if entry.mask:
            with _naming(source / entry.mask):
                contents[MASK_FIELD] = _mask(_read(source / entry.mask), frame, options)
    if entry.label >= 0:
        contents["cls"] = str(entry.label).encode("ascii")
    if entry.note:
        with _naming(path):
            contents["json"] = _note(entry.note)
    return Fields(contents, rotated)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _image_bytes(path: Path, size: int) -> bytes:
    content = _read(path)
    if len(content) != size:
        raise DataError(f"{path} had {size} bytes when it was listed and has {len(content)} now; pack again")
    if not begins_like_image(content):
        raise DataError(f"{path} is no image: it begins with {content[:8]!r}; remove it or replace it")
    return content


class _Frame(NamedTuple):
    """From the stored pixels of an image to those of its sample: turned, then resized to `size`."""

    header: Header
    turn: int
    size: Size

    def changes(self, size: Size, turn: int) -> bool:
        return turn != 1 or size != self.size

    def turn_of(self, mask: Size) -> int:
        """How a label map of this size is turned: with its image, unless it only fits an upright image."""
        stored, shown = self.header.size, turned_size(self.header.size, self.header.orientation)
        if mask == shown and mask != stored and self.turn != 1:
            return 1
        hint = "; it fits the image as its EXIF orientation shows it: pack with --upright" if mask == shown else ""
        check_size(mask, stored, hint=hint)
        return self.turn


def _frame(content: bytes, options: FieldOptions) -> _Frame:
    header = read_header(content)
    turn = header.orientation if options.upright else 1
    return _Frame(header, turn, options.size_of(turned_size(header.size, turn)))


def _image(extension: str, content: bytes, frame: _Frame, options: FieldOptions) -> dict[str, bytes]:
    """The image's field, encoded anew only where something about it must change."""
    header = frame.header
    kind = options.format if options.format != "keep" else header.format if header.format in _EXTENSIONS else "png"
    anew = options.format != "keep" and (kind != header.format or options.quality is not None)
    anew |= options.conversion.alters(content, header.losses, looks=options.check)
    if not anew and not frame.changes(header.size, frame.turn):
        if options.check:
            decode_image(content, factor=8)  # as good as whole: JPEG's entropy coding is read to the end all the same
        return {"jpg" if extension.lower() == "jfif" else extension: content}
    image = encoded_anew(
        content,
        header,
        turn=frame.turn,
        size=frame.size,
        kind=kind,
        quality=options.quality or _QUALITY,
        conversion=options.conversion,
    )
    return {extension if extension.lower() in _EXTENSIONS[kind] else _EXTENSIONS[kind][0]: image}


def _mask(content: bytes, frame: _Frame, options: FieldOptions) -> bytes:
    """The label map of a mask file: its own bytes where they are one and nothing about it must change."""
    size = label_map_size(content)
    stays = size is not None and not frame.changes(size, frame.turn_of(size))
    if stays and not options.check:
        return content
    ids = _fitted(label_ids(content, options.palette.colours if options.palette else None), frame, options)
    return content if stays else label_map_bytes(ids)


def _drawn(shapes: str, frame: _Frame, options: FieldOptions) -> bytes:
    ignored = _CROWD if options.ignore_index is None else options.ignore_index
    return label_map_bytes(_fitted(drawn_ids(shapes, classes=options.classes, ignore_index=ignored), frame, options))


def _fitted(ids: LabelIds, frame: _Frame, options: FieldOptions) -> LabelIds:
    """Label ids turned and resized as their image is."""
    turn = frame.turn_of(ids.shape)
    if options.check and options.classes:
        check_ids(ids, classes=options.classes, ignore_index=options.ignore_index)
    return resized(turned(ids, turn), frame.size) if frame.changes(ids.shape, turn) else ids


def _note(note: str) -> bytes:
    """A JSON object without blanks; its keys keep their order and its numbers their digits."""
    try:
        content = note.encode()
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise DataError(f"what becomes its .json is no JSON object: {error}") from error
    return msgspec.json.format(content, indent=-1)
