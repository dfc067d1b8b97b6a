"""`Collate`, the options for the assembly of batches."""

from dataclasses import dataclass

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms import classify

__all__ = ["Collate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collate:
    """Options for the assembly of samples into batches.

        ShardDataset(shards, batch_size=8, collate=Collate(pad=32))

    Attributes:
        pad: pad images at the right and the bottom to the largest height and width in the batch, rounded up to a
            multiple of this number. Targets become (targets, sizes), where sizes is int64 [batch, 2], the height and
            width of each image before padding.
        mix: `classify.mix(…)`, which applies MixUp or CutMix to each batch on the device. Labels become float32
            [batch, classes], the shares of the classes.
        channels_last: whether images are stored in memory as torch.channels_last.

    Raises:
        ConfigError: `pad` is not a whole number of at least 1.
    """

    pad: int | None = None
    mix: classify.mix | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.pad is not None and (type(self.pad) is not int or self.pad < 1):
            raise ConfigError(
                f"pad must be a whole number of at least 1, not {self.pad!r}: sizes are rounded up to a multiple of it"
            )
