"""Properties of the shard sets of a data set, shared by `ShardDataset` and `ShardSamples`."""

from mps_shards.reading.sample_sources import Source
from mps_shards.shards.manifest import Task

__all__ = ["SetProperties"]


class SetProperties:
    """Properties of the shard sets behind a data set."""

    source: Source

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list. Empty if the set has none."""
        return list(self.source.classes)

    @property
    def task(self) -> Task | None:
        """What the targets are; None for tars without a manifest until the first sample was read."""
        return self.source.task

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where they are not known."""
        return len(self.source.classes)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Class names to class indices."""
        return {name: number for number, name in enumerate(self.source.classes)}

    @property
    def ignore_index(self) -> int | None:
        """Value in label maps that is not a class; None if there is no such value."""
        return self.source.ignore_index

    def close(self) -> None:
        """Close open files. The data set can be used again."""
        self.source.close()
