"""Measure the memory and time of listing and planning in the process that drives a pack.

    python -m tools.bench.plan [--images 5000000] [--json]

The images do not exist: their entries have 1,000 classes, paths like ImageNet's, and 110 KB on average. Each step
prints the peak memory so far. At the end, the task of every shard is built once, as it would be for the workers.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mps_shards.packing.outline import outline
from mps_shards.packing.pack_options import PackOptions
from mps_shards.packing.plan import plan_shards
from mps_shards.packing.sources.files import FolderFiles
from mps_shards.packing.sources.listing import Entries, Entry, Listing, Split
from mps_shards.packing.sources.tree_source import TreeSource

__all__ = ["main"]

_CLASSES = 1000


def main(arguments: Sequence[str] | None = None) -> list[dict[str, float | str]]:
    """Measure, print a line per step, and return the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000_000, help="number of images (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    given = parser.parse_args(arguments)
    lines: list[dict[str, float | str]] = []
    began = time.perf_counter()

    def measured(step: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        lines.append({"step": step, "peak_mb": peak / 1e6, "seconds": time.perf_counter() - began})
        print(
            json.dumps(lines[-1]) if given.json else f"{step:<24} {peak / 1e6:6,.0f} MB {lines[-1]['seconds']:7.1f} s"
        )

    measured("imported")
    entries = Entries(_made_up(given.images))
    classes = tuple(f"n{label:08d}" for label in range(_CLASSES))
    split = Split(name="", task="classification", entries=entries)
    listing = Listing(layout="made up", classes=classes, splits=(split,))
    measured(f"listed {given.images:,}")
    plan = plan_shards(entries, prefix="shard", shard_bytes=256_000_000, shard_samples=None, shuffle_seed=0)
    measured(f"planned {len(plan):,} shards")
    outline(TreeSource(FolderFiles(Path("imgs"))), listing, [plan], PackOptions())
    measured("fingerprint taken")
    if sum(len(shard.entries) for shard in plan) != given.images:
        raise RuntimeError("some images are in no shard")
    measured("all tasks built")
    return lines


def _made_up(images: int) -> Iterator[Entry]:
    for number in range(images):
        label = number * _CLASSES // images
        yield Entry(f"n{label:08d}/n{label:08d}_{number}.JPEG", 60_000 + number * 7919 % 100_000, label)


if __name__ == "__main__":
    main()
