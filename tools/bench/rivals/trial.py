"""One trial: a contestant runs a workload in a new process; its batches are checked, and its figures are printed.

    python -m tools.bench.rivals.ours exact TASK --epochs 2

The first epoch gives the first batch and the memory, and is checked. The other epochs are timed, each from ``iter()``
to the end.
"""

import argparse
import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.bench.rivals.reference import compared
from tools.bench.rivals.workloads import Task

__all__ = ["Memory", "Open", "cpu_seconds", "main", "versions"]

# Returns an iterable of (images, targets), iterated once per epoch. Images are float32 [batch, 3, height, width], 0..1.
Open = Callable[[Task], Iterable[tuple[Any, Any]]]

_COMPARED = 24  # images of the first batch that are compared with the reference
_SAMPLING_S = 0.1  # time between two measurements of memory


def main(contestants: Mapping[str, Open], *, packages: Iterable[str], tolerances: Mapping[str, float] = {}) -> None:
    """Run the contestant that the command line names, and print one JSON line.

    Args:
        contestants: functions that open the loaders, by name.
        packages: packages whose versions are printed.
        tolerances: largest mean difference of a contestant's pixels from Pillow's, in steps of 255; 0.1 by default.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=contestants)
    parser.add_argument("task", type=Task.decoded)
    parser.add_argument("--epochs", type=int, required=True, help="number of timed epochs")
    given = parser.parse_args()
    tolerance = tolerances.get(given.contestant, 0.1)
    measured = measure(contestants[given.contestant], given.task, epochs=given.epochs, tolerance=tolerance)
    print(json.dumps(measured | {"versions": versions(packages)}), flush=True)


def measure(open_loader: Open, task: Task, *, epochs: int, tolerance: float) -> dict[str, Any]:
    """Return the figures of one trial.

    Raises:
        ValueError: the delivered batches are wrong.
    """
    with contextlib.ExitStack() as closing:
        return _measured(open_loader, task, closing, epochs=epochs, tolerance=tolerance)


def _measured(
    open_loader: Open, task: Task, closing: contextlib.ExitStack, *, epochs: int, tolerance: float
) -> dict[str, Any]:
    began = time.perf_counter()
    loader = open_loader(task)
    if hasattr(loader, "close"):
        closing.callback(loader.close)
    opened = time.perf_counter()
    batches = iter(loader)
    images, targets = next(batches)
    first_batch_s = time.perf_counter() - opened
    memory = Memory()
    with memory:
        sample, aims = _copied(images[:_COMPARED]), _copied(targets[:_COMPARED])
        counted = Counter(labels_of(targets)) if task.work.kind != "segment" else Counter()
        seen = _check(images, task)
        del images, targets
        for images, targets in batches:
            seen += _check(images, task)
            counted.update(labels_of(targets) if task.work.kind != "segment" else ())
            del images, targets
    rates = []
    worked = cpu_seconds()
    for _ in range(epochs):
        start = time.perf_counter()
        count = sum(len(images) for images, _ in loader)
        rates.append(count / (time.perf_counter() - start))
        if count != seen:
            raise ValueError(f"the first epoch had {seen} images, but a later one had {count}")
    worked = cpu_seconds() - worked
    if seen != task.images:
        raise ValueError(f"{seen} images were delivered instead of {task.images}")
    result: dict[str, Any] = {
        "images_per_s": rates,
        "cpu_ms": worked / (epochs * seen) * 1e3 if epochs else None,
        "open_s": opened - began,
        "first_batch_s": first_batch_s,
        "rss_mb": memory.rss / 1e6,
        "pss_mb": memory.pss / 1e6,
    }
    if task.work.kind != "segment":
        classes = task.classes()
        expected = Counter(classes[path.parent.name] for path in task.files())
        if counted != expected:
            raise ValueError(f"labels {counted} were delivered instead of {expected}")
    return result | _distance(sample, aims, task, tolerance=tolerance)


def _distance(sample: Any, aims: Any, task: Task, *, tolerance: float) -> dict[str, float]:
    """Return the difference of images from the reference, if there is one. Raises ValueError if it is too large."""
    if task.work.checked:
        apart = compared(sample, aims, task)
        if apart.mean > tolerance or apart.wrong_masks:
            raise ValueError(f"the images differ from those of the files: {apart}")
        return {"mean_off": apart.mean, "max_off": apart.max}
    if not (0.1 < sample.mean() < 0.9 and sample.std() > 0.1):
        raise ValueError(f"the images are not photographs: mean {sample.mean():.2f}, std {sample.std():.2f}")
    return {}


def labels_of(targets: Any) -> list[int]:
    """Return labels as a list of numbers."""
    found: list[int] = _copied(targets).reshape(-1).tolist()
    return found


def _copied(values: Any) -> npt.NDArray[Any]:
    """Return a copy of a tensor, an array or a list as an array."""
    return np.array(values.numpy() if hasattr(values, "numpy") else values)


def _check(images: Any, task: Task) -> int:
    """Return the number of images in a batch. Raises ValueError if their shape, dtype or range is wrong."""
    shape, kind = tuple(images.shape), str(images.dtype).removeprefix("torch.")
    size = task.work.size
    if shape[1:] != (3, size, size) or kind != "float32" or not 0 < shape[0] <= task.batch:
        raise ValueError(f"{kind} {shape} was delivered instead of float32 (<= {task.batch}, 3, {size}, {size})")
    contiguous = images.is_contiguous() if hasattr(images, "is_contiguous") else images.flags.c_contiguous
    if not contiguous:
        raise ValueError("the batch is not stored as NCHW in memory")
    low, high = float(images[0].min()), float(images[0].max())
    if not 0 <= low < high <= 1:
        raise ValueError(f"pixels are in the range {low}..{high} instead of 0..1")
    return int(shape[0])


class Memory:
    """Records the highest memory of this process and its children together, in bytes; a context manager.

    Attributes:
        rss: resident memory; pages that processes share are counted for each process.
        pss: proportional memory; a shared page is divided among its processes. 0 if the system has no PSS (macOS).
    """

    def __init__(self) -> None:
        self.rss = self.pss = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *failure: object) -> None:
        self._look()
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLING_S):
            self._look()

    def _look(self) -> None:
        if sys.platform == "darwin":  # macOS reports the memory of children only after their end
            self.rss = max(self.rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            return
        found = [_of_process(process) for process in _family("self")]
        self.rss = max(self.rss, sum(rss for rss, _ in found))
        self.pss = max(self.pss, sum(pss for _, pss in found))


def _family(process: str) -> list[str]:
    """Return a process and all its descendants."""
    children = []
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            children += (task / "children").read_text().split()
    except OSError:  # it ended meanwhile
        pass
    return [process, *(one for child in children for one in _family(child))]


def _of_process(process: str) -> tuple[int, int]:
    """Return RSS and PSS of a process in bytes."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Rss"] * 1024, kilobytes["Pss"] * 1024


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and, on Linux, of its running children."""
    if not Path("/proc/self/stat").exists():
        return time.process_time()
    ticks = 0
    for process in _family("self")[1:]:
        try:
            spent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:  # it ended meanwhile
            continue
        ticks += sum(map(int, spent))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed, by name."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
