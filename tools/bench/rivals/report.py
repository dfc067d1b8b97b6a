"""Output of benchmarks: a description of the machine, JSON lines, and tables."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

__all__ = ["Lines", "Others", "headline", "machine", "spread", "table", "timed_command"]

ROOT = Path(__file__).parents[3]
_PACKAGES = ("mps-shards", "torch", "torchvision", "simplejpeg", "pillow", "numpy", "webdataset")


class Lines:
    """A file of JSON lines whose first line describes the machine; a context manager."""

    def __init__(self, path: Path, **about: Any):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._about = about

    def __enter__(self) -> "Lines":
        self._file: TextIO = self.path.open("w", encoding="utf-8")
        self.write(machine() | self._about)
        return self

    def write(self, figures: Mapping[str, Any]) -> None:
        """Write one line at once, so that results are kept if a later trial fails."""
        print(json.dumps(figures, default=str), file=self._file, flush=True)

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def machine() -> dict[str, Any]:
    """Return a description of the machine, versions and commit, and the load before the benchmark."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
        "cache": "warm",
    }


class Others:
    """Measures the CPU time that other processes take during a block; a context manager.

    Attributes:
        share: share of all cores, 0..1, after the block has ended; None if the system does not report it (macOS).
    """

    share: float | None = None

    def __enter__(self) -> "Others":
        self._before = _busy_s(), _own_s(), time.perf_counter()
        return self

    def __exit__(self, *failure: object) -> None:
        busy, own, now = _busy_s(), _own_s(), time.perf_counter()
        if busy is not None and self._before[0] is not None:
            others = (busy - self._before[0]) - (own - self._before[1])
            self.share = max(0.0, others / ((now - self._before[2]) * (os.cpu_count() or 1)))


def _busy_s() -> float | None:
    """Return the busy seconds of all cores together; None if the system does not report them."""
    try:
        ticks = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    except OSError:
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle time and waits for a disk


def _own_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def headline(about: Mapping[str, Any]) -> str:
    """Return the description of the machine as one line."""
    versions = about["versions"]
    return (
        f"{about['cores']} cores of {about['cpu']}, {about['system']}, Python {about['python']}, "
        f"torch {versions['torch']}, mps-shards {about['commit']}, warm cache, load {about['load']} at the start"
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum, maximum and number of values."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def timed_command(command: Sequence[str]) -> tuple[float, float]:
    """Run a command, which must succeed, and return its wall and CPU seconds."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, max(cpu, 0.01)  # the resolution of os.times


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns; all columns but the first are aligned to the right."""
    lines = [list(titles), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width if not column else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    return "\n".join([line(lines[0]), f"| {' | '.join(rule)} |", *map(line, lines[1:])])


def _cpu() -> str:
    if platform.system() == "Darwin":
        named = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        return named.stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    """Return the current commit, with a plus sign if the package has uncommitted changes."""

    def git(*command: str) -> str:
        try:
            return subprocess.run(
                ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return ""

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--short", "mps_shards") else "")
