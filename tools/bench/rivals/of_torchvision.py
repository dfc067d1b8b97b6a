"""torchvision's ImageFolder in a DataLoader with worker processes, and torchvision transforms for other rivals."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torchvision import datasets, io
from torchvision.transforms import v2

from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task

__all__ = ["classic", "on_uint8", "one_torch_thread", "read_pixels", "workers"]


def classic(task: Task) -> Callable[[Any], torch.Tensor]:
    """Return the transform from a Pillow image to a tensor that resizes with Pillow."""
    from torchvision import transforms

    work = task.work
    if work.kind == "train":
        steps = [transforms.RandomResizedCrop(work.size), transforms.RandomHorizontalFlip()]
    elif work.kind == "evaluate":
        steps = [transforms.Resize(work.resize), transforms.CenterCrop(work.size)]
    else:
        steps = []
    composed: Callable[[Any], torch.Tensor] = transforms.Compose([*steps, transforms.ToTensor()])
    return composed


def on_uint8(task: Task) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the transform from uint8 [3, height, width] to float32 that resizes uint8 with v2 kernels."""
    work = task.work
    if work.kind == "train":
        steps = [v2.RandomResizedCrop(work.size, antialias=True), v2.RandomHorizontalFlip()]
    elif work.kind == "evaluate":
        steps = [v2.Resize(work.resize, antialias=True), v2.CenterCrop(work.size)]
    else:
        steps = []
    # made contiguous as bytes, because channels-last images would give a float batch that is not NCHW in memory
    composed: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(
        [*steps, contiguous, v2.ToDtype(torch.float32, scale=True)]
    )
    return composed


def contiguous(image: torch.Tensor) -> torch.Tensor:
    """Return the image stored as CHW in memory."""
    return image.contiguous()


def read_pixels(path: str) -> torch.Tensor:
    """Decode a JPEG file with torchvision to uint8 [3, height, width]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since 0.29, but still torchvision's fastest decoder
        pixels: torch.Tensor = io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB)
    return pixels


def one_torch_thread() -> None:
    """Run this thread's torch kernels on one core, because several threads with parallel kernels slow each other."""
    torch.get_num_threads()  # torch applies the default number at a thread's first use, and must not do so later
    torch.set_num_threads(1)


def workers(samples: Any, task: Task, *, batch_size: int | None) -> torch.utils.data.DataLoader[Any]:
    """Return a DataLoader whose processes stay alive through all epochs."""
    return torch.utils.data.DataLoader(
        samples,
        batch_size=batch_size,
        num_workers=task.workers,
        persistent_workers=True,
        multiprocessing_context=task.start,
    )


def folder_pil(task: Task) -> torch.utils.data.DataLoader[Any]:
    """Return ImageFolder with its default loader (Pillow) and classic transforms."""
    return workers(datasets.ImageFolder(task.photos, classic(task)), task, batch_size=task.batch)


def folder_io(task: Task) -> torch.utils.data.DataLoader[Any]:
    """Return ImageFolder with ``decode_jpeg`` and v2 transforms on uint8."""
    return workers(datasets.ImageFolder(task.photos, on_uint8(task), loader=read_pixels), task, batch_size=task.batch)


if __name__ == "__main__":
    main({"pil": folder_pil, "io": folder_io}, packages=("torch", "torchvision", "pillow"))
