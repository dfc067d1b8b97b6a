"""How a pack understood its source, before anything is written: as a value and as lines of text."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mps_shards.errors import ConfigError, DataError, ShardsError
from mps_shards.packing.pack_report import encodable
from mps_shards.packing.sample_fields import FieldRules, stored_ids
from mps_shards.packing.sources.listing import Column, Doubt, Entry, Listing
from mps_shards.packing.sources.source import Source
from mps_shards.shards.manifest import Task
from mps_shards.vision.encoding import read_header
from mps_shards.vision.image_files import has_frames
from mps_shards.vision.png_metadata import without_broken_metadata
from mps_shards.vision.rgb_conversion import changes_to_rgb
from mps_shards.wording import counted

__all__ = ["LabelIdShare", "SplitSummary", "Understanding", "refuse_doubts", "understand"]

_IMAGES = 48  # images to open, spread over all splits: 10 ms for common photographs
_MASKS = 24
_MOST_PIXELS = 30_000_000  # limit for all decoded masks together
_SHOWN_CLASSES = 10
_MANY = 100  # so many label ids without names, up to 250 or more, suggest gray levels
_GAP = 16  # a gap of more missing label ids suggests that ids are not counted from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """One set that will be packed. `name` is "" if the source has no splits."""

    name: str
    task: Task
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIdShare:
    """A label id of the opened masks, its class name if it has one, and its share of the pixels."""

    id: int
    name: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """How a pack understood its source.

    Attributes:
        layout: recognised layout of the source.
        why: why this layout was recognised.
        labels_from: origin of the labels; "" without labels.
        columns: the role of each column of a list.
        looked_at: number of images that were opened for `formats`, `changes` and `rotated`.
        formats: number of opened images by format and mode.
        changes: number of opened images by what a conversion to 8-bit RGB would change.
        rotated: number of opened images with an EXIF orientation.
        label_ids: label ids of the opened masks, after --map-ids.
        left_out: number of files that are not packed, by kind.
        annotations: the first few files that are not packed but look like annotations.
        unnamed: number of images that are left out because no list or annotation file names them.
        notes: assumptions that were made.
        doubts: questions that the user must decide; a pack with doubts writes nothing.
    """

    source: str
    layout: str
    why: str
    task: Task
    splits: tuple[SplitSummary, ...]
    classes: tuple[str, ...]
    labels_from: str
    columns: tuple[Column, ...]
    looked_at: int
    formats: dict[str, int]
    changes: dict[str, int]
    rotated: int
    label_ids: tuple[LabelIdShare, ...]
    left_out: dict[str, int]
    annotations: tuple[str, ...]
    empty: tuple[str, ...]
    unnamed: int
    notes: tuple[str, ...]
    doubts: tuple[Doubt, ...]

    def lines(self) -> Iterator[str]:
        """Yield about a dozen lines that describe the source, without the doubts."""
        images = sum(split.images for split in self.splits)
        parts = [f"{len(self.classes):,} class{'' if len(self.classes) == 1 else 'es'}"] if self.classes else []
        if self.splits[0].name:
            parts.append(counted(len(self.splits), "split"))
        yield f"Found {self.layout}: {', '.join([*parts, counted(images, 'image')])}"
        if self.why:
            yield f"  Why: {self.why}"
        yield f"  Task: {self._task()}"
        if self.splits[0].name:
            yield f"  Splits: {', '.join(f'{split.name} {split.images:,}' for split in self.splits)}"
        if self.classes:
            shown = ", ".join(map(encodable, self.classes[:_SHOWN_CLASSES]))
            more = len(self.classes) - _SHOWN_CLASSES
            origin = f", from {self.labels_from}" if self.labels_from else ""
            yield f"  Classes ({len(self.classes):,}){origin}: {shown}{f' and {more:,} more' if more > 0 else ''}"
        if self.columns:
            yield f"  Columns: {', '.join(f'{name} ({role})' for name, role in self.columns)}"
        if self.label_ids:
            others = f" and {len(self.label_ids) - 20:,} more" if len(self.label_ids) > 20 else ""
            yield f"  Label ids: {', '.join(map(_id_share, self.label_ids[:20]))}{others}"
        if self.formats:
            shown = ", ".join(f"{count} {kind}" for kind, count in self.formats.items())
            yield f"  Images ({self.looked_at} looked at): {shown}"
        for change, count in self.changes.items():
            yield f"  Converting to 8-bit RGB changes {count} of {self.looked_at}: {change}"
        if self.rotated:
            yield f"  EXIF orientation: {self.rotated} of {self.looked_at} images; --upright turns them"
        yield from self._left_out()
        for note in self.notes:
            yield f"  Note: {note}"

    def _task(self) -> str:
        tasks = {split.task for split in self.splits}
        if tasks == {"unlabeled"}:
            return "unlabeled (no labels)"
        lacking = [split.name for split in self.splits if split.task == "unlabeled"]
        return f"{self.task} ({', '.join(lacking)}: no labels)" if lacking else self.task

    def _left_out(self) -> Iterator[str]:
        if self.empty:
            yield f"  Left out, because they hold no images: {', '.join(self.empty)}"
        if self.unnamed:
            yield f"  Left out: {counted(self.unnamed, 'image')} that no list or annotation file names"
        if self.left_out:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in list(self.left_out.items())[:5])
            yield f"  Left out: {counted(sum(self.left_out.values()), 'file')} of other kinds ({kinds})"
        if self.annotations:
            names = ", ".join(self.annotations[:5])
            more = f" and {len(self.annotations) - 5:,} more" if len(self.annotations) > 5 else ""
            yield f"  Not used, though they look like annotations: {names}{more}"


def understand(
    source: Source, listing: Listing, rules: FieldRules, *, skip_bad: bool = False, looks: bool = True
) -> Understanding:
    """Open some of the images and masks, and return the `Understanding` of a source.

    Args:
        looks: whether to open images and masks at all.
        skip_bad: whether images that cannot become 8-bit RGB will be left out, and therefore cause no doubt.

    Raises:
        StorageError: a file cannot be read.
    """
    images = _look_at_images(source, listing, rules, skip_bad=skip_bad) if looks else _Images()
    masks = _look_at_masks(source, listing, rules) if looks else _Masks()
    tasks = [split.task for split in listing.splits if split.task != "unlabeled"]
    return Understanding(
        source=encodable(source.name),
        layout=listing.layout,
        why=listing.why,
        task=tasks[0] if tasks else "unlabeled",
        splits=tuple(SplitSummary(name=each.name, task=each.task, images=len(each.entries)) for each in listing.splits),
        classes=listing.classes,
        labels_from=listing.labels_from,
        columns=listing.columns,
        looked_at=images.looked_at,
        formats=dict(images.formats.most_common()),
        changes=dict(images.changes.most_common()),
        rotated=images.rotated,
        label_ids=masks.shares(listing.classes),
        left_out={encodable(kind): count for kind, count in listing.ignored.most_common()},
        annotations=tuple(map(encodable, listing.annotations)),
        empty=tuple(map(encodable, listing.empty)),
        unnamed=listing.unnamed,
        notes=(*listing.notes, *_notes_on_images(images.broken, images.several, images.looked_at)),
        doubts=(
            *listing.doubts,
            *_doubts_of_names(listing.classes),
            *masks.doubts(listing, rules),
            *images.doubts.values(),
        ),
    )


def refuse_doubts(understanding: Understanding) -> None:
    """Raise one error that lists every doubt.

    Raises:
        ConfigError: there is at least one doubt.
    """
    if understanding.doubts:
        lines = [f"{doubt.question}: {doubt.answer}" for doubt in understanding.doubts]
        text = "\n  ".join(lines if len(lines) == 1 else [f"{len(lines)} things are unclear:", *lines])
        raise ConfigError(f"{text} (--yes accepts the first guess; nothing was written)")


def _doubts_of_names(classes: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt about classes whose names look equal when they are printed."""
    if repeated := [name for name, count in Counter(classes).items() if count > 1]:
        yield Doubt(
            f"several classes have the name {repeated[0]!r}",
            "rename them, or accept classes of one name",
            "content",
        )
    seen: dict[str, str] = {}
    for name in classes:
        shown = unicodedata.normalize("NFC", " ".join(name.split()))
        other = seen.setdefault(shown, name)
        if other != name:
            yield Doubt(
                f"the classes {other!r} and {name!r} differ only in spaces or in Unicode normal form",
                "rename one to make them one class, or accept two classes",
                "content",
            )
            return


class _Images:
    """Findings in the opened images, with one doubt for each kind of change."""

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self.changes: Counter[str] = Counter()
        self.rotated = self.looked_at = self.broken = self.several = 0
        self.doubts: dict[str, Doubt] = {}


def _look_at_images(source: Source, listing: Listing, rules: FieldRules, *, skip_bad: bool) -> _Images:
    found = _Images()
    for entry in _spread(listing, _IMAGES):
        try:
            image = source.read(entry).image
            mended = without_broken_metadata(image)
            found.broken += bool(mended)
            image = mended or image
            header = read_header(image)
            losses = changes_to_rgb(image)
        except (DataError, ConfigError):
            continue  # packing reports it
        try:
            rules.conversion.alters(image, losses, looks=rules.images.check)
        except DataError as error:
            if skip_bad:
                continue
            found.doubts.setdefault(losses[0].kind, _doubt_of_image(f"{source.name}/{entry.path}", error))
        found.looked_at += 1
        found.formats[f"{header.format.upper()} {header.mode}"] += 1
        found.changes.update(loss.words for loss in losses)
        found.rotated += header.orientation != 1
        found.several += header.format != "jpeg" and has_frames(image)
    return found


class _Masks:
    """Label ids of the opened masks."""

    def __init__(self) -> None:
        self.pixels: Counter[int] = Counter()
        self.problem = ""

    def shares(self, classes: Sequence[str]) -> tuple[LabelIdShare, ...]:
        total = self.pixels.total()
        return tuple(
            LabelIdShare(id=number, name=classes[number] if number < len(classes) else "", share=count / total)
            for number, count in sorted(self.pixels.items())
        )

    def doubts(self, listing: Listing, rules: FieldRules) -> Iterator[Doubt]:
        if self.problem:
            yield Doubt(self.problem, "say what each colour means (--palette voc, cityscapes or a file)", "content")
        ids = sorted(set(self.pixels) - {rules.ignore_index})
        classes = len(listing.classes)
        beyond = [number for number in ids if number >= classes] if classes else []
        if beyond:
            yield Doubt(
                f"masks hold the label ids {_shown_ids(beyond)}, but there are {classes} classes, 0 to {classes - 1}",
                "change ids with --map-ids, name the id that is no class with --ignore-index, or correct the classes",
                "content",
            )
        elif not classes and ids in ([0, 255], [255]):
            yield Doubt(
                "masks hold the label ids 0 and 255",
                "make 255 the class 1 with --map-ids binary, or exclude 255 from the classes with --ignore-index 255",
                "content",
            )
        elif not classes and len(ids) > _MANY and ids[-1] >= 250:
            yield Doubt(
                f"masks hold {len(ids)} label ids up to {ids[-1]}, as gray levels and blurred edges do",
                "--map-ids binary makes all above 0 one class, or save masks without smoothing",
                "content",
            )
        elif not classes and ids and (_has_gap(ids) or ids[-1] > 2 * len(ids) + _GAP):
            yield Doubt(
                f"masks hold label ids with large gaps ({_shown_ids(ids)})",
                "change them with --map-ids (255=1, or a file), or name the id that is no class with --ignore-index",
                "content",
            )


def _has_gap(ids: Sequence[int]) -> bool:
    return any(after - before > _GAP for before, after in pairwise([-1, *ids]))


def _look_at_masks(source: Source, listing: Listing, rules: FieldRules) -> _Masks:
    found, pixels = _Masks(), 0
    if all(split.task != "segmentation" for split in listing.splits):
        return found
    for entry in _spread(listing, _MASKS):
        if not entry.mask or pixels > _MOST_PIXELS:
            continue
        try:
            ids = stored_ids(source.read(entry).mask, rules)
        except ShardsError as error:
            if "palette" in str(error) and rules.palette is None:
                found.problem = f"{source.name}/{entry.mask} is a mask of colours"
            continue  # packing reports it
        pixels += ids.size
        values, counts = np.unique(ids, return_counts=True)
        found.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return found


def _notes_on_images(broken: int, several: int, looked_at: int) -> Iterator[str]:
    if several:
        yield f"{several} of {looked_at} images have several frames or pages; training gets the first one"
    if broken:
        yield f"{broken} of {looked_at} PNG images lose damaged or very long metadata; their pixels do not change"


def _doubt_of_image(path: str, error: DataError) -> Doubt:
    question, _, answer = str(error).partition("; ")
    return Doubt(f"{path}: {question}", answer, "content")


def _spread(listing: Listing, count: int) -> Iterator[Entry]:
    """Yield `count` entries, spread evenly over all splits."""
    total = sum(len(split.entries) for split in listing.splits)
    numbers = [total * place // count for place in range(count)] if total > count else list(range(total))
    start = 0
    for split in listing.splits:
        stop = start + len(split.entries)
        for number in numbers:
            if start <= number < stop:
                yield split.entries[number - start]
        start = stop


def _id_share(each: LabelIdShare) -> str:
    name = f" {encodable(each.name)}" if each.name else ""
    return f"{each.id}{name} {each.share:.1%}"


def _shown_ids(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
