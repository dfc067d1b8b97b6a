"""Options for the assembly of batches, as one value that users pass."""

from dataclasses import dataclass

from mps_shards.errors import ConfigError
from mps_shards.vision.transforms import classify

__all__ = ["Collate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collate:
    """Options for the assembly of samples into batches.

        ShardDataset(shards, batch_size=8, collate=Collate(pad=32))

    Attributes:
        pad: Pad images of unequal sizes at the right and the bottom to the largest of the batch, rounded up to a
            multiple of it. Targets become (targets, sizes); sizes: int64 [batch, 2], heights and widths before.
        mix: `classify.mix(…)`, which applies MixUp or CutMix to each batch on the device. Labels become class shares.
        channels_last: Whether images are stored in memory as torch.channels_last.

    Raises:
        ConfigError: One of the values cannot work.
    """

    pad: int | None = None
    mix: classify.mix | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.pad is not None and (type(self.pad) is not int or self.pad < 1):
            raise ConfigError(f"pad is the multiple that sizes are rounded up to, at least 1, not {self.pad!r}")
