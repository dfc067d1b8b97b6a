"""Measure the Python time per sample: this loader, webdataset with a decoder that does nothing, and bare reading.

Python runs under the GIL, which all threads share. At 30 us per sample, even two hundred threads cannot deliver more
than 33,000 images/s. With the native kernel, the time of its calls is subtracted, because they run without the GIL.
Without the kernel, the decoder does nothing, too. The cost of `stats()` is measured as well.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import webdataset

from mps_shards import DeviceLoader, ShardDataset, native
from tools.bench.options import bench_parser
from tools.bench.rivals.pictures import prepared, warmed
from tools.bench.rivals.report import Lines, headline, machine, spread, table
from tools.bench.rivals.workloads import Task

__all__ = ["main"]

GOAL_US = 5.0  # with the native kernel
_TINY = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(4, 4, 3)  # image that the decoder that does nothing returns


class Spent:
    """Microseconds per sample in one epoch. `cpu` is the CPU time of all threads, in user mode and in the kernel."""

    def __init__(self, samples: int, wall_s: float, cpu_s: float, stages: dict[str, float]):
        self.wall, self.cpu = 1e6 * wall_s / samples, 1e6 * cpu_s / samples
        self.stages = {stage: 1e6 * value / samples for stage, value in stages.items()}


def main(arguments: Sequence[str] | None = None) -> bool:
    """Measure, print the table, write JSON lines, and return whether the goal was met."""
    parser = bench_parser(__doc__, data=True, images=1000, rounds=7)
    given = parser.parse_args(arguments)
    about = machine()
    task = prepared("W3", given.data.resolve(), workers=1, images=given.images)
    warmed(task)
    # one loader for all rounds: a new one gets its memory from the system first, which takes 20 us a sample here
    loader = DeviceLoader(ShardDataset(task.shards, batch_size=64, shuffle=True), device="cpu", num_threads=1)
    contestants: dict[str, Callable[[], tuple[int, int, dict[str, float]]]] = {
        "ours, with the native kernel": lambda: by_kernel(loader),
        "ours, in Python": lambda: ours(task),
        "ours, in Python, shuffled": lambda: ours(task, shuffle=True),
        "ours, in Python, without clock": lambda: clockless(task),
        "webdataset in this process": lambda: rival(task),
        "bare loop: pread only": lambda: bare(task),
    }
    spent: dict[str, list[Spent]] = {name: [] for name in contestants}
    expected = sum(task.classes()[path.parent.name] for path in task.files())
    if not native.is_available():
        del contestants["ours, with the native kernel"]
    with Lines(given.out / "bench_overhead.jsonl", rounds=given.rounds) as lines, loader:
        for number in range(given.rounds + 1):
            for name, run in contestants.items():
                worked, began = time.process_time(), time.perf_counter()
                samples, labels, stages = run()
                wall, cpu = time.perf_counter() - began, time.process_time() - worked
                if samples != task.images or labels not in (expected, -1):
                    raise ValueError(f"{name} gave {samples} samples with labels that sum to {labels}, not {expected}")
                one = Spent(samples, wall, cpu - stages.pop("native", 0.0), stages)
                lines.write({"trial": name, "round": number} | vars(one))
                if number:  # the first round warms up
                    spent[name].append(one)
    print(f"{headline(about)}; microseconds per sample, {given.rounds} rounds, one worker thread, without decoding\n")
    print(table(["", "wall", "spread", "CPU", *STAGES], [_row(name, runs) for name, runs in spent.items()]))
    python = {name: _median(runs, "cpu") for name, runs in spent.items()}
    in_python = python["ours, in Python"] - python["bare loop: pread only"]
    clock = python["ours, in Python"] - python["ours, in Python, without clock"]
    print(f"\n{in_python:.1f} us of Python per sample without the kernel, of which measuring is {clock:.1f} us")
    with_kernel = python.get("ours, with the native kernel")
    if with_kernel is None:
        return True
    print(f"{with_kernel:.1f} us of Python per sample with the native kernel (goal: below {GOAL_US:.0f})")
    return with_kernel < GOAL_US


STAGES = ("read", "decode", "transform", "assemble")


def by_kernel(loader: DeviceLoader) -> tuple[int, int, dict[str, float]]:
    """Samples and sum of labels of a shuffled epoch, and the seconds of CPU time in calls of the native kernel."""
    timed = _TimedKernel()
    with mock.patch("mps_shards.native.build.module", lambda: timed):
        samples, labels, _ = _epoch(loader)
    return samples, labels, {"native": timed.seconds}


class _TimedKernel:
    """The native kernel with a clock. `seconds` adds up the CPU time of calls that run without the GIL."""

    def __init__(self) -> None:
        self._module = native.module()
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        return partial(self._timed, function) if name in ("load", "render") else function

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        began = time.thread_time()
        result = function(*arguments)
        self.seconds += time.thread_time() - began
        return result


def ours(task: Task, *, shuffle: bool = False) -> tuple[int, int, dict[str, float]]:
    """Run an epoch without the kernel and without decoding, see `_epoch`."""
    with no_decoding(), mock.patch.dict(os.environ, MPS_SHARDS_KERNEL="off"):
        data = ShardDataset(task.shards, batch_size=64, shuffle=shuffle)
        with DeviceLoader(data, device="cpu", num_threads=1) as loader:
            return _epoch(loader)


def _epoch(loader: DeviceLoader) -> tuple[int, int, dict[str, float]]:
    """Run an epoch of this package, and return the number of samples, the sum of labels, and seconds by stage."""
    labels = sum(int(targets.sum()) for _, targets in loader)
    stats = loader.stats()
    return stats.images, labels, {stage: getattr(stats, f"{stage}_s") for stage in STAGES}


def clockless(task: Task) -> tuple[int, int, dict[str, float]]:
    """Do the same as `ours` with a clock that costs next to nothing."""
    stopped = SimpleNamespace(perf_counter=itertools.repeat(0.0).__next__, monotonic=time.monotonic)
    with ExitStack() as patched:
        for module in ("mps_shards.reading.sample_maker", "mps_shards.batching.worker_threads"):
            patched.enter_context(mock.patch(f"{module}.time", stopped))
        samples, labels, _ = ours(task)
    return samples, labels, {}


def rival(task: Task) -> tuple[int, int, dict[str, float]]:
    """Run an epoch of webdataset up to the batch, without a worker process."""
    read = webdataset.WebDataset(task.tars(), shardshuffle=False).to_tuple("jpg", "cls")
    samples = labels = 0
    for images, targets in read.map_tuple(_tiny, int).batched(64):
        samples += len(images)
        labels += int(torch.as_tensor(targets).sum())
    return samples, labels, {}


def bare(task: Task) -> tuple[int, int, dict[str, float]]:
    """Read the bytes of every sample by one read each."""
    rows = np.load(task.shards / "index.npy").tolist()
    shards = json.loads((task.shards / "manifest.json").read_text())["shards"]
    entries: Iterator[tuple[int, int, int]] = iter(rows)
    samples = 0
    for shard in shards:
        descriptor = os.open(task.shards / shard["name"], os.O_RDONLY)
        try:
            for offset, size, _ in itertools.islice(entries, shard["samples"]):
                samples += len(os.pread(descriptor, size, offset)) == size
        finally:
            os.close(descriptor)
    return samples, -1, {}


def _tiny(content: bytes) -> torch.Tensor:
    return torch.from_numpy(_TINY).permute(2, 0, 1) / 255


@contextmanager
def no_decoding() -> Iterator[None]:
    """Replace the decoder by a function that returns the same tiny image for every input."""

    def tiny(content: Any, **options: Any) -> Any:
        return _TINY

    ours = "mps_shards.vision.targets"
    with mock.patch(f"{ours}.decode_image", tiny), mock.patch(f"{ours}.image_size", lambda content: None):
        yield


def _median(runs: Sequence[Spent], name: str) -> float:
    return spread([getattr(run, name) for run in runs])["median"]


def _row(name: str, runs: Sequence[Spent]) -> list[str]:
    wall = spread([run.wall for run in runs])
    stages = [
        f"{spread([run.stages[stage] for run in runs])['median']:.1f}" if stage in runs[0].stages else ""
        for stage in STAGES
    ]
    cpu = f"{_median(runs, 'cpu'):.1f}"
    return [name, f"{wall['median']:.1f}", f"{wall['min']:.1f}..{wall['max']:.1f}", cpu, *stages]


if __name__ == "__main__":
    sys.exit(not main())
