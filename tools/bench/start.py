"""Measure the time and memory until the first batch with threads, forked processes and spawned processes (macOS).

python -m tools.bench.start --rounds 5
"""

import sys
from collections.abc import Sequence

from tools.bench.options import bench_parser
from tools.bench.rivals.arena import Arena, progress
from tools.bench.rivals.report import Lines, headline, machine, spread, table
from tools.bench.rivals.roster import ROSTER

__all__ = ["main"]

ENTERED = (
    ("ours", "fork"),
    *((name, start) for name in ("webdataset-rgb8", "folder-io") for start in ("fork", "spawn")),
)


def main(arguments: Sequence[str] | None = None) -> bool:
    """Measure, print the table, write JSON lines, and return whether no contestant failed."""
    parser = bench_parser(__doc__, data=True, images=1000, workers=2, rounds=5)
    given = parser.parse_args(arguments)
    about = machine()
    found: dict[tuple[str, str], dict[str, list[float]]] = {
        each: {"first_batch_s": [], "rss_mb": [], "pss_mb": []} for each in ENTERED
    }
    well = True
    with Lines(given.out / "bench_start.jsonl", workers=given.workers, rounds=given.rounds) as lines:
        for _ in range(given.rounds):
            for (name, start), figures in found.items():
                arena = Arena(
                    data=given.data.resolve(),
                    environments=given.data.resolve(),
                    workers=given.workers,
                    rounds=1,
                    epochs=0,
                    images=given.images,
                    start="spawn" if start == "spawn" else "fork",
                    say=progress,
                )
                (result,) = arena.run(["W1"], [name], lines)
                well = well and result.failure is None
                for figure, values in figures.items():
                    values += getattr(result, figure)
    print(f"{headline(about)}; {given.workers} threads or processes, {given.rounds} rounds\n")
    print(table(["loader", "started by", "first batch, s", "spread", "RSS, MB", "PSS, MB"], _rows(found)))
    return well


def _rows(found: dict[tuple[str, str], dict[str, list[float]]]) -> list[list[str]]:
    rows = []
    for (name, start), figures in found.items():
        if not figures["first_batch_s"]:
            continue
        first = spread(figures["first_batch_s"])
        memory = [f"{spread(figures[kind])['median']:,.0f}" for kind in ("rss_mb", "pss_mb")]
        how = "threads" if name == "ours" else start
        rows.append(
            [ROSTER[name].title, how, f"{first['median']:.3f}", f"{first['min']:.3f}..{first['max']:.3f}", *memory]
        )
    return rows


if __name__ == "__main__":
    sys.exit(not main())
