"""mps-shards in the variants that are measured."""

import os
from dataclasses import replace
from typing import Any, Literal

from mps_shards import DeviceLoader, ReadOptions, ShardDataset, classify, segment
from tools.bench.rivals.trial import main
from tools.bench.rivals.workloads import Task


def exact(task: Task) -> DeviceLoader:
    """Return a DeviceLoader on the CPU that decodes exactly."""
    return _opened(task, "exact")


def scaled(task: Task) -> DeviceLoader:
    """Return a DeviceLoader that decodes JPEGs no larger than the crop needs."""
    return _opened(task, "scaled")


def tiles(task: Task) -> DeviceLoader:
    """Return a DeviceLoader over a set that was packed with --tiles."""
    return _opened(replace(task, shards=task.tiles), "exact")


def python(task: Task) -> DeviceLoader:
    """Return a DeviceLoader that uses simplejpeg and torch's kernels instead of the native kernel."""
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
    variants = {"exact": exact, "scaled": scaled, "tiles": tiles, "python": python}
    main(variants, packages=packages, tolerances={"scaled": 6.0})
