"""mps-shards itself."""

import os
from dataclasses import replace
from typing import Any, Literal

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, classify, segment
from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task


def exact(task: Task) -> DeviceLoader:
    """A DeviceLoader with threads, on the CPU."""
    return _opened(task, "exact")


def scaled(task: Task) -> DeviceLoader:
    """The same, decoding no larger than the crop needs."""
    return _opened(task, "scaled")


def tiles(task: Task) -> DeviceLoader:
    """A set that was packed with --tiles."""
    return _opened(replace(task, shards=task.tiles), "exact")


def python(task: Task) -> DeviceLoader:
    """Without the native kernel: simplejpeg and torch's kernels."""
    os.environ["MPS_SHARDS_KERNEL"] = "off"
    return _opened(task, "exact")


def _opened(task: Task, decode: Literal["exact", "scaled"]) -> DeviceLoader:
    work = task.work
    transform: Any = None
    if work.kind == "evaluate":
        transform = classify.evaluate(work.size, work.resize)
    elif work.kind == "train":
        transform = classify.train(work.size)
    elif work.kind == "segment":
        transform = segment.evaluate(work.size)
    options = ReadOptions(decode=decode)
    data = ShardDataset(task.shards, batch_size=task.batch, transform=transform, read_options=options)
    return DeviceLoader(data, device="cpu", num_threads=task.workers)


if __name__ == "__main__":
    packages = ("mps-shards", "torch", "torchvision", "simplejpeg")
    ways = {"exact": exact, "scaled": scaled, "tiles": tiles, "python": python}
    main(ways, packages=packages, off={"scaled": 6.0})
