"""The benchmark's work done by plain webdataset in a DataLoader, for comparison."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mps_shards.errors import ConfigError
from mps_shards.reading.plain_webdataset import plain_samples
from mps_shards.shards.raw_sample import IMAGE_FIELDS, MASK_FIELD
from mps_shards.storage.folder import Folder
from mps_shards.storage.location import locate
from mps_shards.vision.decoding import decode_mask

__all__ = ["rival"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Turns a decoded sample into image and target, as users of webdataset write it. Instances can be pickled."""

    transform: Any

    def __call__(self, sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image uint8 (height, width, 3) and label or mask -> float32 (3, height, width), int64."""
        image = torch.tensor(next(sample[field] for field in IMAGE_FIELDS if field in sample)).permute(2, 0, 1)
        target = torch.as_tensor(sample[MASK_FIELD] if MASK_FIELD in sample else sample.get("cls", -1))
        if self.transform is not None:
            image, target = self.transform(image, target, np.random.default_rng())
        return image.to(torch.float32).div(255), target.long()


def rival(
    shards: str,
    transform: Any,
    *,
    batch_size: int,
    workers: int,
    batches: int,
    on_images: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """Measure ``DataLoader(WebDataset(…).decode("rgb8").map(…).batched(…))`` over as many batches.

    Args:
        on_images: called with the number of images of each batch.

    Raises:
        ConfigError: fewer than two batches came.
    """
    tars = [tar for location in locate([shards]) for tar in _tars(location.folder, location.names)]
    workers = min(workers, len(tars))  # webdataset gives each worker whole tars
    samples = plain_samples(tars, masks={MASK_FIELD: decode_mask}).map(Pair(transform)).batched(batch_size)
    loader = torch.utils.data.DataLoader(samples, batch_size=None, num_workers=workers)
    images, first_s, began, number = 0, 0.0, time.perf_counter(), -1
    for number, (pixels, _) in enumerate(loader):
        on_images(len(pixels))
        if number == 0:
            first_s, start = time.perf_counter() - began, time.perf_counter()
            continue
        images += len(pixels)
        if number == batches:
            break
    if number < 1:
        raise ConfigError("webdataset gave fewer than two batches, too few to compare: use a smaller --batch-size")
    seconds = time.perf_counter() - start
    return {"images_per_s": images / seconds, "first_batch_s": first_s, "processes": workers}


def _tars(folder: Folder, names: Sequence[str] | None) -> list[str]:
    if folder.path is None:
        raise ConfigError(f"{folder}: --compare works on local sets only")
    return [str(folder / name) for name in names or folder.names() if name.endswith(".tar")]
