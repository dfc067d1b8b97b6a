"""Bare loops without a loader: decoding of images in memory, alone and with the transform.

`decode` is an upper bound for every loader that decodes with libjpeg-turbo. `work` adds resizing and ToTensor into
memory that is reused: the difference between a loader's rate and that of `work` is the loader's own cost.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
import torch
from torchvision.transforms.v2 import functional as kernels

from tools.bench.rivals.of_torchvision import one_torch_thread
from tools.bench.rivals.reference import delivered, mask_of
from tools.bench.rivals.trial import Memory, cpu_seconds, versions
from tools.bench.rivals.workloads import Task


def decode(task: Task) -> Callable[[tuple[bytes, bytes]], Any]:
    """Return a function that decodes a sample and drops it."""
    if task.work.kind == "segment":
        from tools.bench.rivals.of_webdataset import label_map

        return lambda sample: (simplejpeg.decode_jpeg(sample[0], "RGB"), label_map(sample[1]))
    return lambda sample: simplejpeg.decode_jpeg(sample[0], "RGB")


def work(task: Task) -> Callable[[tuple[bytes, bytes]], Any]:
    """Return a function that decodes, resizes or crops with torchvision's kernels, and divides by 255."""
    size, resize, kind = task.work.size, task.work.resize, task.work.kind
    row = torch.empty(3, size, size)
    rng = np.random.default_rng(0)

    def one(sample: tuple[bytes, bytes]) -> torch.Tensor:
        image = torch.from_numpy(simplejpeg.decode_jpeg(sample[0], "RGB")).permute(2, 0, 1)
        if kind == "evaluate":
            image = kernels.center_crop_image(kernels.resize_image(image, [resize]), [size, size])
        elif kind == "train":
            image = _random_crop(image, size, rng)
        return torch.div(image, 255, out=row)

    return one


def _random_crop(image: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Crop, resize and flip as RandomResizedCrop and RandomHorizontalFlip do, without retries."""
    height, width = image.shape[-2:]
    area, ratio = height * width * rng.uniform(0.08, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = min(width, round(float(np.sqrt(area * ratio))))
    tall = min(height, round(float(np.sqrt(area / ratio))))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    image = kernels.resized_crop_image(image, top, left, tall, wide, [size, size])
    return image.flip(-1) if rng.random() < 0.5 else image


def main() -> None:
    """Run one trial that the command line describes, and print its figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=("decode", "work"))
    parser.add_argument("task", type=Task.decoded)
    parser.add_argument("--epochs", type=int, required=True)
    given = parser.parse_args()
    task: Task = given.task
    masked = task.work.kind == "segment"
    samples = [(path.read_bytes(), mask_of(path).read_bytes() if masked else b"") for path in task.files()]
    make = {"decode": decode, "work": work}[given.contestant]
    _check(samples[0][0], task)
    memory = Memory()
    with memory:
        _seconds(samples, task, make)
    worked = cpu_seconds()
    rates = [len(samples) / _seconds(samples, task, make) for _ in range(given.epochs)]
    cpu_ms = (cpu_seconds() - worked) / (given.epochs * len(samples)) * 1e3
    figures = {"images_per_s": rates, "cpu_ms": cpu_ms, "rss_mb": memory.rss / 1e6, "pss_mb": memory.pss / 1e6}
    print(json.dumps(figures | {"versions": versions(("simplejpeg", "torch", "torchvision"))}), flush=True)


def _check(content: bytes, task: Task) -> None:
    plain = task.work.__class__(title="", kind="plain", photos="small", images=1)
    if not np.array_equal(simplejpeg.decode_jpeg(content, "RGB").transpose(2, 0, 1), delivered(task.files()[0], plain)):
        raise ValueError("simplejpeg and Pillow decode to different pixels")


def _seconds(
    samples: list[tuple[bytes, bytes]], task: Task, make: Callable[[Task], Callable[[tuple[bytes, bytes]], Any]]
) -> float:
    """Return the seconds for all samples; each thread makes its own function and takes the next sample."""
    left = iter(samples)
    taking = threading.Lock()

    def run() -> None:
        one_torch_thread()
        one = make(task)
        while True:
            with taking:
                sample = next(left, None)
            if sample is None:
                return
            one(sample)

    threads = [threading.Thread(target=run) for _ in range(task.workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
