"""Label maps, images of class ids in one channel: made from masks of every kind, checked, and stored as PNG."""

import io
import struct
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, cast

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from mps_shards.errors import ConfigError, DecodeError
from mps_shards.shards.raw_sample import MASK_FIELD, Buffer, RawSample
from mps_shards.vision.decoding import MAX_PIXELS, decode_image, decode_mask
from mps_shards.vision.encoding import Size, read_header
from mps_shards.vision.png_metadata import PNG_SIGNATURE

__all__ = [
    "DEFAULT_IGNORE_INDEX",
    "Colour",
    "LabelIds",
    "check_ids",
    "check_size",
    "drawn_ids",
    "label_ids",
    "label_map_bytes",
    "label_map_field",
    "label_map_of",
    "label_map_size",
    "resized",
]

LabelIds: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]  # uint8 or uint16, (height, width)
Colour: TypeAlias = tuple[int, int, int, int]  # red, green, blue, label id

# Label id of the padding in sets without an ignore_index; Pascal VOC and Cityscapes use it for pixels without a class.
DEFAULT_IGNORE_INDEX = 255

_GRAY, _PALETTE = 0, 3  # PNG colour types (PNG 3, 11.2.1)
_FAR = 1_000_000  # largest coordinate of a polygon in pixels; drawing takes memory in proportion to the edges' length


class _Runs(msgspec.Struct):
    """A mask in COCO's run-length encoding.

    Attributes:
        size: height and width of the mask.
        counts: lengths of the runs down the columns, as numbers or packed as text; the first run is outside of the mask
    """

    size: tuple[int, int]
    counts: list[Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]] | str


class _Shape(msgspec.Struct):
    label: int
    segmentation: list[list[float]] | _Runs
    area: float | None = None
    iscrowd: int = 0


class _Drawing(msgspec.Struct):
    height: int
    width: int
    shapes: list[_Shape]


def label_map_size(content: bytes) -> Size | None:
    """Return (height, width) of a PNG that is a label map already, from its header; None for every other mask.

    A label map has one channel of 8 or 16 bits, or palette indices. A gray PNG with fewer bits does not count, because
    many readers spread its values over 0..255.
    """
    if content[:8] != PNG_SIGNATURE or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    return (height, width) if colour == _PALETTE or (colour == _GRAY and depth >= 8) else None


def label_ids(content: bytes, colours: Sequence[Colour] | None) -> LabelIds:
    """Return the label ids of an encoded mask: its gray values, its palette indices, or the label ids of its colours.

    Args:
        content: the encoded mask.
        colours: label id of each colour, for RGB masks; None if no palette is given.

    Returns:
        uint8 [height, width], or uint16 if the file has more than 8 bits or a colour has a larger label id.

    Raises:
        DecodeError: the mask is damaged, is a JPEG, has colours but no palette, or has a colour that is not in the
            palette or a label id that is out of range.
    """
    header = read_header(content)
    if header.mode in ("RGB", "RGBA") and header.format != "jpeg":  # `decode_mask` refuses JPEGs
        if colours is None:
            raise DecodeError(
                f"the mask holds colours (mode {header.mode}); state the label id of each colour with --palette"
            )
        return _colour_ids(decode_image(content), colours)
    ids = decode_mask(content)
    if ids.dtype == np.uint8:
        return cast(LabelIds, ids)
    _check_range(int(ids.min()), int(ids.max()))
    return ids.astype(np.uint16)


def _check_range(least: int, most: int) -> None:
    if least < 0 or most >= 1 << 16:
        raise DecodeError(f"the mask has label ids from {least} to {most}, but a PNG label map holds 0 to 65535")


def _colour_ids(pixels: npt.NDArray[np.uint8], colours: Sequence[Colour]) -> LabelIds:
    """Return the label ids of RGB pixels uint8 [height, width, 3]; every colour must be in the palette exactly."""
    known = np.array(sorted((red << 16 | green << 8 | blue, number) for red, green, blue, number in colours))
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    codes = red << 16 | green << 8 | blue
    places = np.searchsorted(known[:, 0], codes).clip(max=len(known) - 1)
    unknown = known[places, 0] != codes
    if unknown.any():
        row, column = np.unravel_index(int(unknown.argmax()), unknown.shape)
        colour = tuple(int(value) for value in pixels[row, column])
        raise DecodeError(f"the colour {colour} at column {column}, row {row} is not in the palette")
    ids: LabelIds = known[:, 1].astype(np.uint16 if known[:, 1].max() > 255 else np.uint8)[places]
    return ids


def label_map_of(
    raw: RawSample,
    *,
    size: Sequence[int],
    classes: int = 0,
    ignore_index: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
    """Decode the label map of a sample and check it against its image and against the set.

    Args:
        raw: the sample.
        size: height and width of the image.
        classes: number of classes of the set; 0 if it is not known, and then label ids are not checked.
        ignore_index: label id that is not a class.
        max_pixels: limit for the number of pixels.

    Returns:
        uint8 [height, width], or int32 if the file has 16 bits.

    Raises:
        DecodeError: the label map is missing or damaged, has another size than the image, or holds an unknown id.
    """
    ids = decode_mask(label_map_field(raw), max_pixels=max_pixels)
    check_size(ids.shape, size)
    if classes:
        check_ids(ids, classes=classes, ignore_index=ignore_index)
    return ids


def label_map_field(raw: RawSample) -> Buffer:
    """Return the encoded label map of a sample. Raises DecodeError if the sample has none."""
    content = raw.fields.get(MASK_FIELD)
    if content is None:
        raise DecodeError(f"{raw} has no {MASK_FIELD}")
    return content


def check_size(size: Sequence[int], image_size: Sequence[int], *, hint: str = "") -> None:
    """Raise DecodeError unless a label map has the size of its image; both sizes are (height, width).

    Args:
        hint: text to append to the message.
    """
    if tuple(size) != tuple(image_size):
        raise DecodeError(f"the label map is {_pixels(size)}, but its image is {_pixels(image_size)}{hint}")


def _pixels(shape: Sequence[int]) -> str:
    return f"{' x '.join(str(side) for side in reversed(shape))} pixels"


def check_ids(ids: npt.NDArray[Any], *, classes: int, ignore_index: int | None) -> None:
    """Raise DecodeError unless every label id is below `classes` or equals `ignore_index`.

    Otherwise a loss function on a GPU would fail with an assertion that does not name the sample.
    """
    wrong = ids >= classes
    if ids.dtype.kind == "i":
        wrong |= ids < 0
    if ignore_index is not None and wrong.any():
        wrong &= ids != ignore_index
    if wrong.any():
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        ignored = "" if ignore_index is None else f", and {ignore_index} is ignored"
        raise DecodeError(
            f"label id {ids[row, column]} at column {column}, row {row} is not a class: the set has {classes} classes, "
            f"0 to {classes - 1}{ignored}; declare an id that is not a class with --ignore-index"
        )


def resized(ids: LabelIds, size: Size) -> LabelIds:
    """Return label ids resized to (height, width) by nearest neighbour: each pixel gets the id under its centre."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, ids.shape, strict=True))
    nearest: LabelIds = ids[np.ix_(rows, columns)]
    return nearest


def label_map_bytes(ids: LabelIds) -> bytes:
    """Encode label ids as a single-channel PNG of 8 bits (uint8) or 16 bits (uint16)."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(ids)).save(file, "png")
    return file.getvalue()


def drawn_ids(shapes: str, *, classes: int, ignore_index: int) -> LabelIds:
    """Draw a label map from COCO annotations; pixels without an object get the label id 0.

    Crowd regions are drawn first, as `ignore_index`. Objects follow, larger areas first, so that smaller objects cover
    larger ones; among equal areas, the later object covers the earlier one.

    Args:
        shapes: JSON object with height, width and shapes; each shape has label, segmentation (polygons, or run lengths
            as numbers or as text), area and iscrowd.
        classes: number of classes of the set; 0 if it is not known.
        ignore_index: label id of crowd regions.

    Returns:
        uint8 [height, width], or uint16 if the set has label ids above 255.

    Raises:
        ConfigError: pycocotools is needed, but not installed.
        DecodeError: the annotations are malformed.
    """
    try:
        drawing = msgspec.json.decode(shapes, type=_Drawing)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the COCO shapes are malformed: {error}") from error
    size = (drawing.height, drawing.width)
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise DecodeError(
            f"the COCO shapes are for an image of {size[1]} x {size[0]} pixels; 1 to {MAX_PIXELS:,} pixels are accepted"
        )
    numbers = [shape.label for shape in drawing.shapes]
    most = max([ignore_index, classes - 1, *numbers])
    _check_range(min([0, *numbers]), most)
    ids: LabelIds = np.zeros(size, np.uint16 if most > 255 else np.uint8)
    for shape in sorted(drawing.shapes, key=lambda shape: _layer(shape, size)):
        ids[_inside(shape, size)] = ignore_index if shape.iscrowd else shape.label
    return ids


def _layer(shape: _Shape, size: Size) -> tuple[bool, float]:
    area = float(np.count_nonzero(_inside(shape, size))) if shape.area is None else shape.area
    return not shape.iscrowd, -area


def _inside(shape: _Shape, size: Size) -> npt.NDArray[np.bool_]:
    if isinstance(shape.segmentation, _Runs):
        return _from_runs(shape.segmentation, size)
    return _from_polygons(shape.segmentation, size)


def _from_polygons(polygons: list[list[float]], size: Size) -> npt.NDArray[np.bool_]:
    """Return bool [height, width], the inside of polygons x, y, x, y, … in pixels, as pycocotools draws them."""
    rings = [ring for ring in polygons if len(ring) >= 6]  # COCO has polygons with two corners, which have no inside
    for ring in rings:
        if len(ring) % 2 or not all(abs(value) <= _FAR for value in ring):
            raise DecodeError(
                f"a polygon has {len(ring)} numbers from {min(ring):g} to {max(ring):g}, but must consist of pairs of "
                f"pixel coordinates up to {_FAR:,}"
            )
    if not rings:
        return np.zeros(size, bool)
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ConfigError("drawing polygons needs pycocotools: pip install 'mps-shards[coco]'") from error
    drawn = mask.merge(mask.frPyObjects(rings, *size))
    return _from_runs(_Runs(size, drawn["counts"].decode("ascii")), size)


def _from_runs(runs: _Runs, size: Size) -> npt.NDArray[np.bool_]:
    # checked and unpacked here, because pycocotools does not initialise pixels that too short runs leave uncovered
    counts = _unpacked(runs.counts) if isinstance(runs.counts, str) else np.array(runs.counts, np.int64)
    pixels = size[0] * size[1]
    if runs.size != size or (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
        raise DecodeError(
            f"the run lengths of a mask of {runs.size[1]} x {runs.size[0]} pixels do not fill the image of "
            f"{size[1]} x {size[0]} pixels exactly"
        )
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(size[1], size[0]).T


def _unpacked(text: str) -> npt.NDArray[np.int64]:
    """Return the run lengths in a text of COCO, int64 [runs] (cocoapi, maskApi.c: rleFrString).

    A letter holds five bits of a number, low bits first, and one bit that says whether more letters follow. From the
    fourth number on, each number is the difference to the number two places before it.
    """
    letters = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(letters & 32 == 0)
    if not len(ends) or ends[-1] != len(letters) - 1:
        return np.zeros(0, np.int64)  # the text is cut off
    starts = np.concatenate([[0], ends[:-1] + 1])
    shifts = 5 * (np.arange(len(letters)) - np.repeat(starts, ends - starts + 1))
    counts = np.add.reduceat((letters & 31) << shifts, starts)
    counts -= np.where(letters[ends] & 16, 1 << shifts[ends] + 5, 0)
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts
