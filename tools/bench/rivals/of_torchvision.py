"""torchvision's ImageFolder in a DataLoader with worker processes; its transforms also serve other rivals."""

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
    """Pillow image -> tensor by Pillow's own resizing."""
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
    """uint8 (3, height, width) -> float32 by v2 kernels on uint8."""
    work = task.work
    if work.kind == "train":
        steps = [v2.RandomResizedCrop(work.size, antialias=True), v2.RandomHorizontalFlip()]
    elif work.kind == "evaluate":
        steps = [v2.Resize(work.resize, antialias=True), v2.CenterCrop(work.size)]
    else:
        steps = []
    # contiguous while still bytes: from channels-last ones the float batch would not be NCHW in memory
    composed: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(
        [*steps, contiguous, v2.ToDtype(torch.float32, scale=True)]
    )
    return composed


def contiguous(image: torch.Tensor) -> torch.Tensor:
    """The image as CHW in memory."""
    return image.contiguous()


def read_pixels(path: str) -> torch.Tensor:
    """A JPEG file by torchvision's decoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since 0.29, yet the fastest that torchvision has
        pixels: torch.Tensor = io.decode_jpeg(io.read_file(path), mode=io.ImageReadMode.RGB)
    return pixels


def one_torch_thread() -> None:
    """Let this thread's kernels run in it alone: where several threads work, a team for each slows all of them."""
    torch.get_num_threads()  # first: torch sets a new thread to the common number when it is first asked or used
    torch.set_num_threads(1)


def workers(samples: Any, task: Task, *, batch_size: int | None) -> torch.utils.data.DataLoader[Any]:
    """A DataLoader whose processes live through all epochs."""
    return torch.utils.data.DataLoader(
        samples,
        batch_size=batch_size,
        num_workers=task.workers,
        persistent_workers=True,
        multiprocessing_context=task.start,
    )


def folder_pil(task: Task) -> torch.utils.data.DataLoader[Any]:
    """ImageFolder as everybody starts with it."""
    return workers(datasets.ImageFolder(task.photos, classic(task)), task, batch_size=task.batch)


def folder_io(task: Task) -> torch.utils.data.DataLoader[Any]:
    """ImageFolder with ``decode_jpeg`` and v2 on uint8."""
    return workers(datasets.ImageFolder(task.photos, on_uint8(task), loader=read_pixels), task, batch_size=task.batch)


if __name__ == "__main__":
    main({"pil": folder_pil, "io": folder_io}, packages=("torch", "torchvision", "pillow"))
