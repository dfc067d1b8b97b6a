"""Encoding of an entry of a source as the fields of its sample."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np

from mps_shards import native
from mps_shards.errors import DataError
from mps_shards.packing.label_id_maps import LabelIdMap, find_id_map
from mps_shards.packing.pack_options import ImageOptions, PackOptions
from mps_shards.packing.palette import Palette, find_palette
from mps_shards.packing.sources.foreign_content import named_file
from mps_shards.packing.sources.listing import Entry, Listing
from mps_shards.packing.sources.source import Source
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
from mps_shards.vision.png_metadata import without_broken_metadata
from mps_shards.vision.rgb_conversion import RgbConversion

__all__ = ["NO_RULES", "FieldRules", "Fields", "fields_of", "rules_of", "settle_classes", "stored_ids"]

# Field names for each format that most readers know. A .jfif file is a JPEG, but few readers know that name.
_EXTENSIONS = {"jpeg": ("jpg", "jpeg"), "webp": ("webp",), "png": ("png",)}
_QUALITY = 90  # as in FFCV; fifteen photographs have 36.6 dB, and 30 % fewer bytes than at 95 (39.4 dB)
_CROWD = 255  # label id of COCO's crowd regions if no other label id is ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRules:
    """Rules for the fields of a sample, which follow from the options, the listing and the palette.

    Attributes:
        conversion: how images that 8-bit RGB cannot hold are converted; by default they are refused.
        palette: colours of RGB masks.
        classes: number of classes of the set; 0 if unknown, and then label ids of masks are not checked.
        ignore_index: label id of masks that is not a class.
        id_map: map that changes the label ids of masks.
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    conversion: RgbConversion = field(default_factory=RgbConversion)
    palette: Palette | None = None
    classes: int = 0
    ignore_index: int | None = None
    id_map: LabelIdMap | None = None

    @property
    def gray_levels(self) -> LabelIdMap | None:
        """The label id of each value of a single-channel mask, if all colours of the palette are shades of gray."""
        colours = self.palette.colours if self.palette else ()
        if not colours or any(red != green or green != blue for red, green, blue, _ in colours):
            return None
        return LabelIdMap(name="palette", pairs=tuple((gray, number) for gray, _, _, number in colours))

    @property
    def changes_ids(self) -> bool:
        """Whether stored label ids of masks are changed."""
        return self.id_map is not None or self.gray_levels is not None

    @property
    def palette_digest(self) -> str | None:
        """SHA-256 of the colours of the palette, as the manifest records it."""
        if self.palette is None:
            return None
        return hashlib.sha256(msgspec.json.encode(self.palette.colours)).hexdigest()


NO_RULES = FieldRules()


def rules_of(options: PackOptions) -> FieldRules:
    """Return the rules that follow from the options alone.

    Raises:
        ConfigError: a palette or a conversion does not exist, or tiles need the native kernel, which is missing.
    """
    images, masks = options.images, options.masks
    if images.tiles:
        native.require()
    return FieldRules(
        images=images,
        conversion=RgbConversion(to_8bit=images.to_8bit, background=images.background, drop_alpha=images.drop_alpha),
        palette=find_palette(masks.palette) if masks.palette is not None else None,
        ignore_index=masks.ignore_index,
        id_map=find_id_map(masks.map_ids) if masks.map_ids is not None else None,
    )


def settle_classes(listing: Listing, rules: FieldRules) -> tuple[Listing, FieldRules]:
    """Return the listing with its classes, or else those of the palette, and both with the final ignore index."""
    if all(split.task != "segmentation" for split in listing.splits):
        return listing, rules
    palette, ignored = rules.palette, rules.ignore_index
    if ignored is None:
        ignored = listing.ignore_index
    if palette is not None and not listing.classes:
        listing = replace(listing, classes=palette.names)
        outside = {number for *_, number in palette.colours if number >= len(palette.names)}
        ignored = outside.pop() if ignored is None and palette.names and len(outside) == 1 else ignored
    id_map = rules.id_map or listing.id_map
    if ignored is None and id_map is not None:
        ignored = id_map.ignore_index
    rules = replace(rules, classes=len(listing.classes), ignore_index=ignored, id_map=id_map)
    return replace(listing, ignore_index=ignored), rules


class Fields(NamedTuple):
    """The fields of one sample.

    Attributes:
        contents: encoded fields, by field name.
        rotated: whether the image has an EXIF orientation, which the loader does not apply; False if the image was not
            decoded.
        key: key of the sample; "" if the key follows from the path of the entry.
        tiled: whether the image was rewritten as tiles.
    """

    contents: dict[str, bytes]
    rotated: bool = False
    key: str = ""
    tiled: bool = False


def fields_of(source: Source, entry: Entry, rules: FieldRules) -> Fields:
    """Return the encoded fields of one sample.

    The field of an unchanged image keeps the case of its file's extension, so that unpacking restores the file name.

    Raises:
        ConfigError: a required package is not installed.
        DataError: the entry cannot become a sample; the error names the file, the cause and what to do.
        StorageError: a file cannot be read.
    """
    stored = source.read(entry)
    path = f"{source.name}/{entry.path or stored.key}"
    contents = {**stored.others, stored.extension: stored.image}
    rotated = is_tiled = False
    if stored.is_packed and not rules.images.decodes:
        return Fields({**contents, **_label(entry)}, key=stored.key)
    _check_image(path, stored.image)
    if mended := without_broken_metadata(stored.image):
        stored = replace(stored, image=mended)
        contents[stored.extension] = mended
    # A JPEG loses nothing in the conversion to 8-bit RGB; other formats may.
    if rules.images.decodes or stored.mask or entry.shapes or not stored.image.startswith(b"\xff\xd8\xff"):
        with _with_path(path):
            frame = _frame(stored.image, rules)
            image = _image(stored.extension, stored.image, frame, rules)
            if rules.images.tiles:
                image, is_tiled = _tiled(image)
            contents = {**stored.others, **image}
            rotated = frame.header.orientation != 1 and frame.turn == 1
            if entry.shapes:
                contents[MASK_FIELD] = _drawn(entry.shapes, frame, rules)
        if stored.mask:
            with _with_path(f"{source.name}/{entry.mask}" if "." in entry.mask else f"the mask of {path}"):
                contents[MASK_FIELD] = _mask(stored.mask, frame, rules)
    contents |= _label(entry)
    if entry.note:
        with _with_path(path):
            contents["json"] = _note(entry.note)
    if entry.caption:
        contents["txt"] = entry.caption.encode("utf-8", "replace")
    return Fields(contents, rotated, stored.key, is_tiled)


def _label(entry: Entry) -> dict[str, bytes]:
    return {"cls": str(entry.label).encode("ascii")} if entry.label >= 0 else {}


@contextlib.contextmanager
def _with_path(path: str) -> Iterator[None]:
    """Add the path of a file to the message of a DataError."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _check_image(path: str, content: bytes) -> None:
    if begins_like_image(content):
        return
    if found := named_file(content[:1024]):
        noun = "the image itself" if "LFS" in found.what else "an image"
        raise DataError(f"{path} is {found.what}, not {noun}: {found.remedy}")
    if not content.strip(b"\0"):
        raise DataError(f"{path} is not an image: it holds {len(content):,} zero bytes; restore or remove it")
    raise DataError(f"{path} is not an image: it begins with {content[:8]!r}; remove it or replace it")


class _Frame(NamedTuple):
    """The geometry of a sample: the stored image is turned by `turn`, an EXIF orientation, and resized to `size`."""

    header: Header
    turn: int
    size: Size

    def changes(self, size: Size, turn: int) -> bool:
        return turn != 1 or size != self.size

    def turn_of(self, mask: Size) -> int:
        """Return the EXIF orientation by which to turn a label map of this size; 1 if it is upright already."""
        stored, shown = self.header.size, turned_size(self.header.size, self.header.orientation)
        if mask == shown and mask != stored and self.turn != 1:
            return 1
        hint = "; it fits the image as its EXIF orientation shows it: pack with --upright" if mask == shown else ""
        check_size(mask, stored, hint=hint)
        return self.turn


def _frame(content: bytes, rules: FieldRules) -> _Frame:
    header = read_header(content)
    turn = header.orientation if rules.images.upright else 1
    return _Frame(header, turn, _stored_size(turned_size(header.size, turn), rules.images))


def _image(extension: str, content: bytes, frame: _Frame, rules: FieldRules) -> dict[str, bytes]:
    """Return the field of the image, encoded again only if the image must change."""
    header, options = frame.header, rules.images
    kind = options.format if options.format != "keep" else header.format if header.format in _EXTENSIONS else "png"
    anew = options.format != "keep" and (kind != header.format or options.quality is not None)
    anew |= rules.conversion.alters(content, header.losses, looks=options.check)
    if not anew and not frame.changes(header.size, frame.turn):
        if options.check:
            decode_image(
                content, factor=8
            )  # finds the same damage as at full size, because all of a JPEG's entropy coding is read
        return {"jpg" if extension.lower() == "jfif" else extension: content}
    image = encoded_anew(
        content,
        header,
        turn=frame.turn,
        size=frame.size,
        kind=kind,
        quality=options.quality or _QUALITY,
        conversion=rules.conversion,
    )
    return {extension if extension.lower() in _EXTENSIONS[kind] else _EXTENSIONS[kind][0]: image}


def _tiled(field: dict[str, bytes]) -> tuple[dict[str, bytes], bool]:
    """Return the image's field as tiles and True, or unchanged and False if rewriting would lose information."""
    ((name, content),) = field.items()
    rewritten = native.tiled(content)
    if rewritten is None:
        return field, False
    if rewritten != content and not np.array_equal(decode_image(rewritten), decode_image(content)):
        raise DataError(
            "the image decodes to other pixels as tiles, which is a defect of the native kernel: pack without --tiles"
        )
    return {name: rewritten}, True


def _mask(content: bytes, frame: _Frame, rules: FieldRules) -> bytes:
    """Return the encoded label map of a mask, which is the mask itself if no change is needed."""
    size = label_map_size(content)
    stays = size is not None and not frame.changes(size, frame.turn_of(size)) and not rules.changes_ids
    if stays and not rules.images.check:
        return content
    ids = _fitted(stored_ids(content, rules), frame, rules)
    return content if stays else label_map_bytes(ids)


def stored_ids(content: bytes, rules: FieldRules) -> LabelIds:
    """Return the label ids of an encoded mask, changed by the rules.

    Raises:
        DecodeError: the mask is damaged, lossy or coloured without a palette, or a colour or an id is not allowed.
    """
    ids = label_ids(content, rules.palette.colours if rules.palette else None)
    if rules.gray_levels and read_header(content).mode not in ("RGB", "RGBA"):
        ids = rules.gray_levels.apply(ids)
    return rules.id_map.apply(ids) if rules.id_map is not None else ids


def _drawn(shapes: str, frame: _Frame, rules: FieldRules) -> bytes:
    ignored = _CROWD if rules.ignore_index is None else rules.ignore_index
    ids = drawn_ids(shapes, classes=rules.classes, ignore_index=ignored)
    return label_map_bytes(_fitted(ids, frame, rules))


def _fitted(ids: LabelIds, frame: _Frame, rules: FieldRules) -> LabelIds:
    """Return label ids that are turned and resized like their image."""
    turn = frame.turn_of(ids.shape)
    if rules.images.check and rules.classes:
        check_ids(ids, classes=rules.classes, ignore_index=rules.ignore_index)
    return resized(turned(ids, turn), frame.size) if frame.changes(ids.shape, turn) else ids


def _note(note: str) -> bytes:
    """Return a JSON object without whitespace. Its keys keep their order, and its numbers keep their digits."""
    try:
        content = note.encode()
        msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise DataError(f"the metadata is not a JSON object: {error}") from error
    return msgspec.json.format(content, indent=-1)


def _stored_size(size: tuple[int, int], options: ImageOptions) -> tuple[int, int]:
    """Return the height and width in which an image is stored, rounded to the nearest pixel."""
    height, width = size
    base, goal = min(size), options.resize
    if options.max_size is not None and options.max_size < max(size):
        base, goal = max(size), options.max_size
    if goal is None:
        return size
    return max(1, (2 * height * goal + base) // (2 * base)), max(1, (2 * width * goal + base) // (2 * base))
