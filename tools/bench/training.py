"""Measure how loading and training overlap on a device: both together against the slower of the two alone.

python -m tools.bench.training --images 8000 --workers 16          ResNet-50 in bfloat16 on the GPU

Training alone repeats one batch that is already on the device. The rival is torchvision's ImageFolder in a DataLoader
with pinned memory.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import io, models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from mps_shards import DeviceLoader, ShardDataset, classify
from tools.bench.options import bench_parser
from tools.bench.rivals.pictures import prepared
from tools.bench.rivals.report import Lines, headline, machine, table
from tools.bench.rivals.workloads import Task

__all__ = ["main"]

_WARM_UP = 10  # batches before the time of training alone is taken


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__, data=True, images=1000, workers=2, rounds=3)
    parser.add_argument("--device", default="auto", help="auto, mps, cuda or cpu (default: %(default)s)")
    parser.add_argument("--network", default="resnet50", help="network of torchvision.models (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="samples of a batch (default: %(default)s)")
    given = parser.parse_args(arguments)
    task = prepared("W2", given.data.resolve(), workers=given.workers, images=given.images)
    found: list[dict[str, Any]] = []
    with ours(task, given.batch, given.device) as loader:
        train = Training(given.network, loader.device)
        rivals: dict[str, Iterable[Any]] = {
            "mps-shards": loader,
            "ImageFolder": Folder(task, given.batch, loader.device),
        }
        print(headline(machine()))
        with Lines(given.out / "bench_training.jsonl", rounds=given.rounds, network=given.network) as lines:
            alone = train.alone(given.batch, rounds=given.rounds)
            for name, batches in rivals.items():
                rate(batches, keep)  # starts the processes and fills the caches
                load, both = (
                    statistics.median(rate(batches, step) for _ in range(given.rounds)) for step in (keep, train)
                )
                share = both / min(load, alone)
                found.append({"loader": name, "load": load, "train": alone, "both": both, "of_slower": share})
                lines.write(found[-1])
    print(f"\n{given.network} on {loader.device}, training alone: {alone:,.0f} images/s\n")
    rows = [[one["loader"], f"{one['load']:,.0f}", f"{one['both']:,.0f}", f"{one['of_slower']:.2f}"] for one in found]
    print(table(["loader", "loading alone", "both", "of the slower alone"], rows))
    return found


class Training:
    """A training step of a network with random weights."""

    def __init__(self, network: str, device: torch.device):
        self.device = device
        self._net = models.get_model(network, num_classes=1000).to(device, memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(self._net.parameters(), 0.1, momentum=0.9)

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        """Update the weights."""
        with torch.autocast(self.device.type, torch.bfloat16):
            scores = self._net(images.contiguous(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(scores, targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def alone(self, batch: int, *, rounds: int) -> float:
        """Return the images per second of steps with one batch that is on the device."""
        images = torch.rand(batch, 3, 224, 224, device=self.device)
        batches = [(images, torch.zeros(batch, dtype=torch.int64, device=self.device))] * _WARM_UP
        rate(batches, self)
        return statistics.median(rate(batches, self) for _ in range(rounds))


class Folder:
    """Batches of the same photographs by torchvision, moved to the device by the training loop."""

    def __init__(self, task: Task, batch: int, device: torch.device):
        transform = v2.Compose(
            [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
        )
        folder = ImageFolder(str(task.photos), transform, loader=_decoded)
        self._batches = DataLoader(
            folder,
            batch,
            shuffle=True,
            num_workers=task.workers,
            pin_memory=device.type == "cuda",
            drop_last=True,
            persistent_workers=True,
        )
        self._device = device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, targets in self._batches:
            yield images.to(self._device, non_blocking=True), targets.to(self._device, non_blocking=True)


def ours(task: Task, batch: int, device: str) -> DeviceLoader:
    """Return a loader with random crops, in shuffled order."""
    data = ShardDataset(task.shards, batch_size=batch, transform=classify.train(224), shuffle=True, drop_last=True)
    return DeviceLoader(data, device=device, num_threads=task.workers)


def keep(images: torch.Tensor, targets: torch.Tensor) -> None:
    """Do nothing with a batch."""


def rate(batches: Iterable[Any], step: Callable[[torch.Tensor, torch.Tensor], None]) -> float:
    """Return the images per second of an epoch, until the device has finished."""
    began, count = time.perf_counter(), 0
    last: torch.Tensor | None = None
    for images, targets in batches:
        step(images, targets)
        count, last = count + len(images), images
    if last is None:
        raise ValueError("there are fewer images than a batch has")
    last.flatten()[0].item()  # waits for the device
    return count / (time.perf_counter() - began)


def _decoded(path: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision 0.29 names torchcodec as its successor
        return io.decode_image(path, mode="RGB")


if __name__ == "__main__":
    main()
