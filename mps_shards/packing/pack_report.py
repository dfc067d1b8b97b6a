"""The plan and the report of a pack."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mps_shards.shards.manifest import Task

if TYPE_CHECKING:
    from mps_shards.packing.understanding import Understanding

__all__ = ["NO_DUPLICATES", "Duplicates", "PackPlan", "PackReport", "PackedSet", "PlannedSet", "Skipped", "encodable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Images that are identical, byte for byte, to an earlier image in the order of splits and paths.

    Attributes:
        images: number of repeated images; the first image of each group does not count.
        pairs: the first few repetitions, as pairs of paths (first image, repeated image).
        conflicts: number of repeated images whose label differs from that of the first image.
        conflicting: the first few pairs of images whose labels differ.
        dropped: whether the repeated images were left out.
    """

    images: int = 0
    pairs: tuple[tuple[str, str], ...] = ()
    conflicts: int = 0
    conflicting: tuple[tuple[str, str], ...] = ()
    dropped: bool = False


NO_DUPLICATES = Duplicates()


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An image that could not become a sample, and the reason. `label` is its class number, -1 for none."""

    path: str
    reason: str
    label: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSet:
    """One shard set to make.

    Attributes:
        prefix: prefix of the shards' names.
        bytes: expected size of the shards in bytes, computed from the listing.
        labels: numbers of samples of each class, by class number.
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
    """Summary of what a pack will do, with all that is needed to join the finished shards into sets.

    Attributes:
        fingerprint: SHA-256 over everything that decides a byte of the output.
        source: path of the source, which the report shows; not part of the fingerprint.
        layout: recognised layout of the source.
        found: recognised layout in words.
        numbers: names of the target numbers, for the task "regression".
        colours: red, green and blue of the label ids 0, 1, …; empty unless a palette gives all of them.
        options: options of the pack, as the manifest records them.
        is_resumable: whether the source can be read again, so that an interrupted pack can continue.
        passed_over: images that the listing had to leave out.
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
    """One shard set that was packed.

    Attributes:
        folder: folder of the set; for a set in a store, its URL without secrets.
        classes: numbers of samples of each class.
        rotated: number of images with an EXIF orientation, which the loader does not apply.
        tiled: number of images whose crops can be decoded alone, if `tiles` was set.
        fingerprint: fingerprint of the set; "" until the set is finished.
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
    """Results of a pack, or, after a dry run, the results that it would have.

    Attributes:
        source: path of the source, or a few words that describe a source without a path.
        out: the destination folder; for a destination in a store, its URL without secrets.
        layout: recognised layout of the source, in words.
        sets: the shard sets, one for each split.
        classes: class names; a label is an index into this list.
        ignored: number of files that are not images, by extension.
        empty: names of the class folders without an image.
        skipped: images that could not become samples; ``skipped.jsonl`` beside the sets lists them, too.
        understanding: how the source was understood; None for `commit`.
        kept: number of shards that an earlier, interrupted run had finished.
        already_packed: whether `out` already held a finished pack of the same images with the same options.
        finished: whether the sets can be read now; False after a dry run or one task of an array job.
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

    def __repr__(self) -> str:
        """Name the destination and the counts; a notebook shows this, and the class names of a set could fill it."""
        shards = sum(one.shards for one in self.sets)
        return f"PackReport(out={str(self.out)!r}, samples={self.samples}, shards={shards}, seconds={self.seconds:.2f})"


def encodable(text: str) -> str:
    r"""Return the text with undecodable bytes of file names written as ``\xff``, so that it can be encoded."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
