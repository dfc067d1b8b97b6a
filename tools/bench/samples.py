"""Measure `ShardSamples` in torch's DataLoader beside torchvision's ImageFolder over the same photographs.

python -m tools.bench.samples --images 600 --workers 0 2

Epochs of both are timed in turn, with the same transform, order and DataLoader options. Both give the same tensors.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from mps_shards import ShardSamples
from tools.bench.options import bench_parser
from tools.bench.rivals.pictures import prepared
from tools.bench.rivals.report import Lines, headline, machine, spread, table

__all__ = ["main"]

_BATCH = 32


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__, data=True, images=600, rounds=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="numbers of DataLoader workers")
    given = parser.parse_args(arguments)
    work = prepared("W1", given.data.resolve(), workers=1, images=given.images)
    transform = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])
    folder, samples = ImageFolder(str(work.photos), transform), ShardSamples(work.shards, transform)
    check_same(folder, samples)
    rivals: dict[str, Dataset[Any]] = {"ImageFolder": folder, "ShardSamples": samples}
    print(headline(machine()))
    found: list[dict[str, Any]] = []
    with Lines(given.out / "bench_samples.jsonl", images=given.images, rounds=given.rounds) as lines:
        for workers in given.workers:
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
            for turn in range(given.rounds):
                for name in sorted(rivals, reverse=turn % 2 > 0):  # each is first in every second round
                    times[name].append(epoch(rivals[name], workers, seed=turn))
            for name in rivals:
                wall, cpu = (spread([given.images / taken[i] for taken in times[name]]) for i in range(2))
                found.append({"reader": name, "workers": workers, "per_s": wall, "per_cpu_s": cpu})
                lines.write(found[-1])
    print(table(["reader", "workers", "images/s", "images per CPU second"], map(_cells, found)))
    return found


def check_same(folder: ImageFolder, samples: ShardSamples) -> None:
    """Raise ValueError unless both give the same tensors and labels."""
    root = Path(folder.root)
    numbers = {
        path.relative_to(root).with_suffix("").as_posix(): number
        for number, path in enumerate(Path(name) for name, _ in folder.samples)
    }
    if len(folder) != len(samples):
        raise ValueError(f"ImageFolder has {len(folder)} samples, but ShardSamples has {len(samples)}")
    for number in range(0, len(samples), max(1, len(samples) // 20)):
        image, label = samples[number]
        expected, right = folder[numbers[samples.key(number)]]
        if label != right or not torch.equal(image, expected):
            raise ValueError(f"sample {samples.key(number)!r} differs between ImageFolder and ShardSamples")


def epoch(data: Dataset[Any], workers: int, *, seed: int) -> tuple[float, float]:
    """Return the wall and CPU seconds of one epoch, including worker processes."""
    loader = DataLoader(
        data,
        batch_size=_BATCH,
        shuffle=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
        multiprocessing_context="fork" if workers else None,
    )
    before, began = os.times(), time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    wall, after = time.perf_counter() - began, os.times()
    if images != len(data):  # type: ignore[arg-type]  # both have a length
        raise ValueError(f"an epoch had {images} samples instead of all samples")
    return wall, sum(after[:4]) - sum(before[:4])


def _cells(figures: dict[str, Any]) -> list[str]:
    rates = [f"{figures[name]['median']:,.0f}" for name in ("per_s", "per_cpu_s")]
    return [figures["reader"], str(figures["workers"]), *rates]


if __name__ == "__main__":
    main()
