"""Batches of images of unequal sizes: each padded at the right and the bottom to the size of the largest."""

from collections.abc import Callable, Sized
from typing import Any

import torch

from mps_shards.batching.host_batch import HostBatch, ImageFormat, Sample
from mps_shards.errors import ConfigError

__all__ = ["PaddedBatch"]


class PaddedBatch(HostBatch):
    """Collects the samples first, since their sizes decide the batch's; then writes them, in `complete`.

    Images are padded with 0 and masks with `ignore_index`. Targets become (targets, sizes), sizes int64 (batch, 2):
    height and width before padding.

    Args:
        multiple: height and width of the batch are rounded up to a multiple of this.
    """

    def __init__(
        self,
        plan: Sized,
        allocate: Callable[[int], torch.Tensor],
        *,
        pixels: torch.dtype,
        image_format: ImageFormat,
        multiple: int,
        ignore_index: int,
    ):
        super().__init__(plan, allocate, pixels=pixels, image_format=image_format)
        self._multiple, self._ignore_index = multiple, ignore_index
        self._samples: list[Sample | None] = [None] * len(plan)

    def image_rows(self, shape: tuple[int, int, int], key: str, dtype: torch.dtype = torch.uint8) -> None:
        """None: the size of rows is not known before all samples are."""

    def put(self, row: int, sample: Sample) -> None:
        """Keep a sample.

        Raises:
            ConfigError: its image is not one tensor (channels, height, width).
        """
        if not isinstance(sample.image, torch.Tensor) or sample.image.ndim != 3:
            raise ConfigError(f"pad takes images (channels, height, width); sample {sample.key!r} is none")
        # cloned: what a transform gives may be memory that it uses again
        self._samples[row] = sample._replace(image=sample.image.clone())

    def complete(self) -> int:
        """Write all samples, padded."""
        kept = [sample for sample in self._samples if sample is not None]
        skipped, self.rows = self.rows - len(kept), len(kept)
        self._samples, self._skipped_rows, self.keys = [], [], [""] * len(kept)
        if not kept:
            return skipped
        height, width = (max(sample.image.shape[side] for sample in kept) for side in (1, 2))
        height, width = (side + -side % self._multiple for side in (height, width))
        for row, sample in enumerate(kept):
            sizes = torch.tensor(sample.image.shape[1:])
            image = _padded(sample.image, height, width, 0)
            super().put(row, Sample(image, (self._target(sample, height, width), sizes), sample.key))
        super().complete()
        return skipped

    def _target(self, sample: Sample, height: int, width: int) -> Any:
        if isinstance(sample.target, torch.Tensor) and sample.target.shape == sample.image.shape[1:]:
            return _padded(sample.target, height, width, self._ignore_index)
        return sample.target


def _padded(tensor: torch.Tensor, height: int, width: int, value: int) -> torch.Tensor:
    right, bottom = width - tensor.shape[-1], height - tensor.shape[-2]
    return torch.nn.functional.pad(tensor, [0, right, 0, bottom], value=value) if right or bottom else tensor
