"""webdataset in a DataLoader with worker processes."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
import webdataset
from torchvision.transforms import v2

from tools.bench.rivals.of_torchvision import classic, on_uint8, workers
from tools.bench.rivals.reference import Pixels
from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task


class FromPixels:
    """webdataset's ``rgb8`` arrays -> tensors by v2 kernels on uint8."""

    def __init__(self, task: Task):
        self._transform = on_uint8(task)

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """uint8 (height, width, 3) -> float32 (3, height, width)."""
        return self._transform(torch.from_numpy(pixels).permute(2, 0, 1))


class Pair:
    """Image and mask of a sample, scaled to fit a square and padded: torchvision's kernels, as ours do."""

    def __init__(self, task: Task):
        self._size = task.work.size

    def __call__(self, pair: tuple[Pixels, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask as decoded -> float32 (3, size, size) and int64 (size, size)."""
        image, mask = torch.from_numpy(pair[0]).permute(2, 0, 1), torch.from_numpy(pair[1])[None]
        factor = self._size / max(mask.shape[-2:])
        size = [max(1, round(side * factor)) for side in mask.shape[-2:]]
        padding = [0, 0, self._size - size[1], self._size - size[0]]
        kernels = v2.functional
        image = kernels.pad(kernels.resize(image, size), padding)
        mask = kernels.pad(kernels.resize(mask, size, v2.InterpolationMode.NEAREST), padding, fill=255)
        return kernels.to_dtype(image, torch.float32, scale=True).contiguous(), mask[0].long()


def pil(task: Task) -> torch.utils.data.DataLoader[Any]:
    """``decode("pil")`` and torchvision's classic transforms."""
    return _opened(task, "pil", classic(task))


def rgb8(task: Task) -> torch.utils.data.DataLoader[Any]:
    """``decode("rgb8")`` and v2 on uint8: its best variant here."""
    return _opened(task, "rgb8", FromPixels(task))


def _opened(task: Task, decoder: str, transform: Callable[[Any], Any]) -> torch.utils.data.DataLoader[Any]:
    read = webdataset.WebDataset(task.tars(), shardshuffle=False)
    if task.work.kind == "segment":  # "rgb8" would decode the mask as a picture too
        read = read.decode(webdataset.handle_extension("jpg", rgb), webdataset.handle_extension("mask.png", label_map))
        samples = read.to_tuple("jpg", "mask.png").map(Pair(task))
    else:
        samples = read.decode(decoder).to_tuple("jpg", "cls").map_tuple(transform, int)
    return workers(samples.batched(task.batch), task, batch_size=None)


def rgb(content: bytes) -> Pixels:
    """A JPEG's pixels, as webdataset's own "rgb8" decodes them."""
    decoded: Pixels = webdataset.imagehandler("rgb8")("jpg", content)
    return decoded


def label_map(content: bytes) -> Pixels:
    """A mask's ids."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(content)) as mask:
        return np.array(mask)


if __name__ == "__main__":
    torchvision.disable_beta_transforms_warning()
    main({"pil": pil, "rgb8": rgb8}, packages=("webdataset", "torch", "torchvision", "pillow"))
