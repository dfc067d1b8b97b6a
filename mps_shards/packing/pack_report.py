"""What a pack will do, and what it did."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mps_shards.shards.manifest import Task

if TYPE_CHECKING:
    from mps_shards.packing.understanding import Understanding

__all__ = ["NO_DUPLICATES", "Duplicates", "PackPlan", "PackReport", "PackedSet", "PlannedSet", "Skipped", "encodable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Images that are the same, byte for byte, as one before them, in the order of splits and paths.

    Attributes:
        images: how many there are beside the first of each kind.
        pairs: the first few, as (first, repeated).
        conflicts: how many of them bear another label than the first.
        conflicting: the first few of those.
        dropped: whether they were left out.
    """

    images: int = 0
    pairs: tuple[tuple[str, str], ...] = ()
    conflicts: int = 0
    conflicting: tuple[tuple[str, str], ...] = ()
    dropped: bool = False


NO_DUPLICATES = Duplicates()


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An image that could not become a sample, and why. `label` is its class number, -1 for none."""

    path: str
    reason: str
    label: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSet:
    """One shard set to make.

    Attributes:
        prefix: of its shards' names.
        bytes: of its shards, as far as the listing tells.
        labels: samples of each class, by class number.
    """

    split: str
    prefix: str
    task: Task
    samples: int
    shards: int
    bytes: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """What a pack will do, in short: all that joining the finished shards needs to know.

    Attributes:
        fingerprint: SHA-256 over everything that decides a byte of the output.
        source: where the images were listed, for the report; decides nothing.
        layout: what the source was recognised as.
        found: the same in words.
        numbers: names of the numbers that are the targets, for the task "regression".
        colours: red, green and blue of the label ids 0, 1, …; empty without a palette that gives all of them.
        options: for the manifest.
        is_resumable: whether the shards of an interrupted pack are worth keeping: the source can be read again.
        passed_over: what the listing had to leave out.
    """

    fingerprint: str
    source: str
    layout: str
    found: str
    classes: tuple[str, ...]
    ignore_index: int | None
    numbers: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] = ()
    seed: int | None
    options: dict[str, str | int | float | bool | None]
    sets: tuple[PlannedSet, ...]
    ignored: dict[str, int]
    empty: tuple[str, ...]
    passed_over: tuple[Skipped, ...] = ()
    is_resumable: bool = True
    duplicates: Duplicates = NO_DUPLICATES


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSet:
    """One shard set.

    Attributes:
        folder: or its URL in a store, without secrets.
        classes: samples of each class.
        rotated: number of images with an EXIF orientation, which the loader does not apply.
        tiled: images whose crops can be decoded alone, where that was asked for.
        fingerprint: "" until the set is finished.
    """

    split: str
    folder: Path | str
    task: Task
    samples: int
    shards: int
    bytes: int
    classes: dict[str, int] = field(repr=False)
    rotated: int = 0
    tiled: int = 0
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What a pack did, or, after a dry run, what it would do.

    Attributes:
        source: path of the source, or a few words for a source that has none.
        out: the folder, or its URL in a store, without secrets.
        layout: what the source was recognised as, in words.
        sets: one for each split.
        classes: class names; a label is a place in this list.
        ignored: how many files were no images, by extension.
        empty: class folders without an image.
        skipped: images that could not become samples; ``skipped.jsonl`` beside the sets lists them, too.
        understanding: what was understood of the source; None for `commit`.
        kept: shards that an earlier, interrupted run had finished.
        already_packed: whether `out` held the finished pack of the same images with the same options already.
        finished: whether the sets can be read now: not after a dry run, nor after one task of an array.
    """

    source: str
    out: Path | str
    layout: str
    sets: tuple[PackedSet, ...]
    classes: tuple[str, ...]
    ignored: dict[str, int]
    empty: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    duplicates: Duplicates = NO_DUPLICATES
    understanding: "Understanding | None" = None
    kept: int = 0
    finished: bool = True
    already_packed: bool = False
    seconds: float

    @property
    def samples(self) -> int:
        """Number of samples in all sets."""
        return sum(one.samples for one in self.sets)


def encodable(text: str) -> str:
    r"""The text, with bytes of file names that are no UTF-8 spelled out as ``\xff``, so that it can be written down."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
