"""Batches of images of different sizes, which are padded at the right and the bottom to a common size."""

import threading
from collections.abc import Callable, Sized

import torch

from mps_shards.batching.host_batch import HostBatch, ImageFormat, Sample
from mps_shards.batching.tensor_layout import image_leaf, target_leaf
from mps_shards.errors import ConfigError
from mps_shards.wording import counted, megabytes

__all__ = ["PaddedBatch"]


class PaddedBatch(HostBatch):
    """A batch that keeps its samples until all of them are made and their largest size is known, then pads them.

    Images are padded with 0 and label maps with `ignore_index`. Targets become (targets, sizes), where sizes is int64
    [batch, 2], the height and width of each image before padding.

    Args:
        plan, allocate, pixels, image_format: as for `HostBatch`.
        multiple: height and width of the batch are rounded up to a multiple of this number.
        ignore_index: label id of the padding of label maps.
    """

    is_padded = True

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
        self._sizes_lock = threading.Lock()
        self._height = self._width = 0  # largest height and width so far
        self._kept_bytes = 0
        self._values_bytes = 0  # largest number of bytes per pixel so far: all channels and the label map

    def image_rows(self, shape: tuple[int, int, int], key: str, dtype: torch.dtype = torch.uint8) -> None:
        """Return None, because the size of a row is unknown until all samples are made."""

    def put(self, row: int, sample: Sample) -> None:
        """Keep a sample until `complete` pads and writes it.

        Raises:
            ConfigError: the image is not one tensor [channels, height, width], or the padded batch would take more
                memory than is allowed.
        """
        image, target = sample.image, sample.target
        if not isinstance(image, torch.Tensor) or image.ndim != 3:
            raise ConfigError(
                f"pad needs one image tensor [channels, height, width] per sample, but sample {sample.key!r} has none"
            )
        self._make_room(sample)
        # cloned, because a transform may reuse the memory of its result
        self._samples[row] = sample._replace(
            image=image.clone(), target=target.clone() if isinstance(target, torch.Tensor) else target
        )

    def _make_room(self, sample: Sample) -> None:
        """Reserve the memory of the batch with this sample: kept samples, the padded batch, and one padded row.

        Raises:
            ConfigError: the batch takes more memory than is allowed.
        """
        image, target = sample.image, sample.target
        has_label_map = _is_label_map(sample)
        values = image.shape[0] * image_leaf(image, self._pixels, sample.key).dtype.itemsize
        if has_label_map:
            values += target_leaf(target, self._pixels, sample.key).dtype.itemsize
        with self._sizes_lock:
            height, width = (side + -side % self._multiple for side in image.shape[1:])
            self._height, self._width = max(self._height, height), max(self._width, width)
            self._values_bytes = max(self._values_bytes, values)
            self._kept_bytes += image.nbytes + (target.nbytes if has_label_map else 0)
            padded = self._height * self._width * self._values_bytes
            needed = (len(self.plan) + 1) * padded + self._kept_bytes
            limit = self.reserve(needed)
        if limit is not None:
            raise ConfigError(
                f"a batch of {counted(len(self.plan), 'image')}, padded to {self._height} x {self._width} because of "
                f"sample {sample.key!r} ({image.shape[1]} x {image.shape[2]}), takes {megabytes(needed)} while it is "
                f"made, more than memory={limit:,} allows ({megabytes(limit)}): resize in the transform, use a "
                "smaller batch_size, or allow more memory"
            )

    def complete(self) -> int:
        """Pad and write all samples, and return the number of skipped rows."""
        kept = [sample for sample in self._samples if sample is not None]
        skipped, self.rows = self.rows - len(kept), len(kept)
        self._samples, self._skipped_rows, self.keys = [], [], [""] * len(kept)
        for row in range(len(kept)):
            sample, kept[row] = kept[row], None  # type: ignore[call-overload]  # frees each sample after it is written
            sizes = torch.tensor(sample.image.shape[1:])
            image = self._padded(sample.image, 0)
            target = self._padded(sample.target, self._ignore_index) if _is_label_map(sample) else sample.target
            super().put(row, Sample(image, (target, sizes), sample.key))
        super().complete()
        return skipped

    def _padded(self, tensor: torch.Tensor, value: int) -> torch.Tensor:
        right, bottom = self._width - tensor.shape[-1], self._height - tensor.shape[-2]
        return torch.nn.functional.pad(tensor, [0, right, 0, bottom], value=value) if right or bottom else tensor


def _is_label_map(sample: Sample) -> bool:
    return isinstance(sample.target, torch.Tensor) and sample.target.shape == sample.image.shape[1:]
