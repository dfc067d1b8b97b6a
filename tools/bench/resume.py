"""Measure how soon a resumed run has its first batch, early and late in an epoch, and the cost of planning an epoch.

python -m tools.bench.resume --samples 1000000 --plans 1281167 1000000000
"""

import hashlib
import io
import tempfile
import time
import tracemalloc
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mps_shards import ShardDataset
from mps_shards.sampling.order import Shuffle, ShuffledOrder
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest, Packed, ShardRecord, manifest_bytes
from mps_shards.shards.sample_index import INDEX_NAME, index_bytes, rows
from mps_shards.shards.tar import END, header, padding
from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, headline, machine, spread, table

__all__ = ["main"]


def make_set(folder: Path, *, samples: int, per_shard: int) -> None:
    """Write a set that repeats one real sample. Full shards are hard links to one file, so the set is small on disk."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 40, 90)).save(stream, "JPEG")
    sample = b"".join(
        header(f"sample.{field}", len(content)) + content + padding(len(content))
        for field, content in (("cls", b"0"), ("jpg", stream.getvalue()))
    )
    made: dict[int, tuple[Path, str]] = {}
    records, index = [], []
    for number, start in enumerate(range(0, samples, per_shard)):
        count = min(per_shard, samples - start)
        path, size = folder / f"s-{number:06d}.tar", count * len(sample) + len(END)
        if count in made:
            path.hardlink_to(made[count][0])
        else:
            path.write_bytes(sample * count + END)
            made[count] = path, hashlib.sha256(path.read_bytes()).hexdigest()
        records.append(ShardRecord(name=path.name, samples=count, bytes=size, sha256=made[count][1]))
        index.append(rows([(place * len(sample), len(sample), zlib.crc32(sample)) for place in range(count)]))
    content = index_bytes(index)
    manifest = Manifest(
        task="classification",
        classes=("all",),
        samples=samples,
        bytes=sum(record.bytes for record in records),
        shards=tuple(records),
        index_sha256=hashlib.sha256(content).hexdigest(),
        packed=Packed(version="0", layout="synthetic", seed=None),
    )
    (folder / INDEX_NAME).write_bytes(content)
    (folder / MANIFEST_NAME).write_bytes(manifest_bytes(manifest))


def resume(folder: Path, *, position: int, batch: int) -> dict[str, float]:
    """Return the milliseconds for opening a set and from a saved state to the first batch, and the seconds of a replay.

    The replay reads all batches before the position again; its time is extrapolated from 20 batches.
    """
    state = {**ShardDataset(folder, batch_size=batch, shuffle=True).state_dict(), "epoch": 3, "position": position}
    began = time.perf_counter()
    data = ShardDataset(folder, batch_size=batch, shuffle=True)
    opened = time.perf_counter()
    data.load_state_dict(state)
    batches = iter(data)
    images, _ = next(batches)
    first = time.perf_counter()
    if not 0 < len(images) <= batch:
        raise RuntimeError(f"the first batch has {len(images)} images instead of 1 to {batch}")
    more = sum(len(images) for images, _ in islice(ShardDataset(folder, batch_size=batch, shuffle=True), 20))
    replayed = time.perf_counter() - first
    data.close()
    return {
        "open_ms": 1e3 * (opened - began),
        "first_batch_ms": 1e3 * (first - opened),
        "replay_s": position * replayed / more,
    }


def plan(samples: int, *, per_shard: int) -> dict[str, float]:
    """Return the seconds and memory for planning an epoch, and the time for finding a position in it."""
    counts = [per_shard] * (samples // per_shard) + [samples % per_shard] * bool(samples % per_shard)
    began = time.perf_counter()
    order = ShuffledOrder(counts, Shuffle(), seed=0, epoch=1)
    planned = time.perf_counter()
    rng = np.random.default_rng(0)
    windows = [rng.integers(0, samples - 64) + np.arange(64) for _ in range(10)]
    anywhere = time.perf_counter()
    for positions in windows:
        order.at(positions)
    found = time.perf_counter()
    batches = [np.arange(start, start + 64) for start in range(0, min(samples, 64 * 512), 64)]
    along = time.perf_counter()
    numbers = np.concatenate([order.at(positions) for positions in batches])
    walked = time.perf_counter()
    if len(np.unique(numbers)) != len(numbers):
        raise RuntimeError("the order contains a sample twice")
    del order
    tracemalloc.start()  # for a second order, because tracing slows allocation down
    kept = ShuffledOrder(counts, Shuffle(), seed=0, epoch=1)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return {
        "plan_s": planned - began,
        "peak_mb": peak / 1e6,
        "held_mb": held / 1e6,
        "seek_ms": 1e3 * (found - anywhere) / len(windows),
        "position_us": 1e6 * (walked - along) / len(numbers),
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print two tables, write JSON lines, and return the figures."""
    parser = bench_parser(__doc__, rounds=5)
    parser.add_argument("--samples", type=int, default=1_000_000, help="samples of the set (default: %(default)s)")
    parser.add_argument("--per-shard", type=int, default=1000, help="samples per shard (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="samples per batch (default: %(default)s)")
    parser.add_argument(
        "--plans",
        type=int,
        nargs="*",
        default=[1_281_167, 1_000_000_000],
        help="sizes of sets whose epochs are planned",
    )
    given = parser.parse_args(arguments)
    print(headline(machine()))
    found: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Lines(given.out / "bench_resume.jsonl", rounds=given.rounds, batch=given.batch) as lines,
    ):
        make_set(Path(folder), samples=given.samples, per_shard=given.per_shard)
        last = (given.samples - 1) // given.batch * given.batch
        for name, position in (("first", 0), ("middle", last // 2 // given.batch * given.batch), ("last", last)):
            rounds = [resume(Path(folder), position=position, batch=given.batch) for _ in range(given.rounds)]
            figures = {figure: spread([each[figure] for each in rounds]) for figure in rounds[0]}
            found.append({"batch": name, "samples": given.samples, "position": position, **figures})
            lines.write(found[-1])
        print(f"\nResuming in an epoch of {given.samples:,}, batches of {given.batch}, {given.rounds} rounds")
        print(table(RESUME, map(resume_row, found)))
        plans: list[dict[str, Any]] = []
        for samples in given.plans:
            plans.append({"plan": samples, **plan(samples, per_shard=given.per_shard)})
            lines.write(plans[-1])
        if plans:
            print("\nPlanning an epoch")
            print(table(PLAN, map(plan_row, plans)))
    return found + plans


RESUME = ("batch", "state to first batch", "spread", "opening the set", "replay (extrapolated)")
PLAN = ("samples", "plan", "peak memory", "memory kept", "a random batch of 64", "a position in sequence")


def resume_row(figures: dict[str, Any]) -> list[str]:
    """Return the figures of one resumed run as cells of the table."""
    first = figures["first_batch_ms"]
    return [
        figures["batch"],
        f"{first['median']:.1f} ms",
        f"{first['min']:.1f}..{first['max']:.1f}",
        f"{figures['open_ms']['median']:.1f} ms",
        f"{figures['replay_s']['median']:.1f} s",
    ]


def plan_row(figures: dict[str, Any]) -> list[str]:
    """Return the figures of one plan as cells of the table."""
    return [
        f"{figures['plan']:,}",
        f"{1e3 * figures['plan_s']:,.0f} ms",
        f"{figures['peak_mb']:,.0f} MB",
        f"{figures['held_mb']:,.0f} MB",
        f"{figures['seek_ms']:.2f} ms",
        f"{figures['position_us']:.1f} us",
    ]


if __name__ == "__main__":
    main()
