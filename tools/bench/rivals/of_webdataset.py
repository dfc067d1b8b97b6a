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
    """Turns webdataset's ``rgb8`` arrays into tensors with v2 kernels on uint8."""

    def __init__(self, task: Task):
        self._transform = on_uint8(task)

    def __call__(self, pixels: Pixels) -> torch.Tensor:
        """Transform uint8 [height, width, 3] to float32 [3, height, width]."""
        return self._transform(torch.from_numpy(pixels).permute(2, 0, 1))


class Pair:
    """Scales image and mask of a sample to fit a square, and pads them, with torchvision's kernels."""

    def __init__(self, task: Task):
        self._size = task.work.size

    def __call__(self, pair: tuple[Pixels, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Transform a decoded image and mask to float32 [3, size, size] and int64 [size, size]."""
        image, mask = torch.from_numpy(pair[0]).permute(2, 0, 1), torch.from_numpy(pair[1])[None]
        factor = self._size / max(mask.shape[-2:])
        size = [max(1, round(side * factor)) for side in mask.shape[-2:]]
        padding = [0, 0, self._size - size[1], self._size - size[0]]
        kernels = v2.functional
        image = kernels.pad(kernels.resize(image, size), padding)
        mask = kernels.pad(kernels.resize(mask, size, v2.InterpolationMode.NEAREST), padding, fill=255)
        return kernels.to_dtype(image, torch.float32, scale=True).contiguous(), mask[0].long()


def pil(task: Task) -> torch.utils.data.DataLoader[Any]:
    """Return a loader with ``decode("pil")`` and torchvision's classic transforms."""
    return _opened(task, "pil", classic(task))


def rgb8(task: Task) -> torch.utils.data.DataLoader[Any]:
    """Return a loader with ``decode("rgb8")`` and v2 transforms on uint8, webdataset's fastest variant."""
    return _opened(task, "rgb8", FromPixels(task))


def _opened(task: Task, decoder: str, transform: Callable[[Any], Any]) -> torch.utils.data.DataLoader[Any]:
    read = webdataset.WebDataset(task.tars(), shardshuffle=False)
    if task.work.kind == "segment":  # "rgb8" would also decode the mask as an RGB image
        read = read.decode(webdataset.handle_extension("jpg", rgb), webdataset.handle_extension("mask.png", label_map))
        samples = read.to_tuple("jpg", "mask.png").map(Pair(task))
    else:
        samples = read.decode(decoder).to_tuple("jpg", "cls").map_tuple(transform, int)
    return workers(samples.batched(task.batch), task, batch_size=None)


def rgb(content: bytes) -> Pixels:
    """Return the pixels of a JPEG as webdataset's "rgb8" decodes them."""
    decoded: Pixels = webdataset.imagehandler("rgb8")("jpg", content)
    return decoded


def label_map(content: bytes) -> Pixels:
    """Return the label ids of an encoded mask."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(content)) as mask:
        return np.array(mask)


if __name__ == "__main__":
    torchvision.disable_beta_transforms_warning()
    main({"pil": pil, "rgb8": rgb8}, packages=("webdataset", "torch", "torchvision", "pillow"))
