"""Properties that `ShardDataset` and `ShardSamples` share."""

from mps_shards.reading.sample_sources import Source
from mps_shards.shards.manifest import Task

__all__ = ["SetProperties"]


class SetProperties:
    """Properties of the shard sets of a data set.

    Attributes:
        source: source from which the data set reads its samples.
    """

    source: Source

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list. Empty if the set has no class names."""
        return list(self.source.classes)

    @property
    def task(self) -> Task | None:
        """Kind of the targets, such as "classification"; None for tars without a manifest before the first sample."""
        return self.source.task

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if the classes are not known."""
        return len(self.source.classes)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Class indices by class name."""
        return {name: number for number, name in enumerate(self.source.classes)}

    @property
    def ignore_index(self) -> int | None:
        """Label id in label maps that is not a class; None if there is no such id."""
        return self.source.ignore_index

    def close(self) -> None:
        """Close open files. The data set can be used again."""
        self.source.close()
