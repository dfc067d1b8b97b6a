"""What every layout gives: the images of each split, sorted by path, with their labels."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from mps_shards.shards.manifest import Task

__all__ = ["Entry", "Listing", "Split"]


class Entry(NamedTuple):
    """One image file. `path` is relative to the packed folder, with forward slashes; `label` -1 means none."""

    path: str
    size: int
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The images that become one shard set. `name` is "" where the folder has no splits."""

    name: str
    task: Task
    entries: list[Entry] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A whole source folder.

    Attributes:
        layout: what it was recognised as.
        classes: class names, sorted by code point as torchvision's ImageFolder does; shared by all splits.
        splits: sorted by name.
        ignored: how many files were no images, by extension.
        empty: class folders without an image; they are no classes.
    """

    layout: str
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    ignored: Counter[str]
    empty: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for people: ``class folders: 12 classes, 3 splits, 1,234 images``."""
        parts = [f"{len(self.classes)} classes"] if self.classes else []
        if len(self.splits) > 1 or self.splits[0].name:
            parts.append(f"{len(self.splits)} splits ({', '.join(split.name for split in self.splits)})")
        parts.append(f"{sum(len(split.entries) for split in self.splits):,} images")
        return f"{self.layout}: {', '.join(parts)}"
