"""Measure how the rate grows with threads: this package, the same work without a loader, and a rival's processes.

python -m tools.bench.threads --threads 1 2 4 8
"""

import os
import sys
from collections.abc import Sequence

from tools.bench.options import bench_parser
from tools.bench.rivals.arena import Arena, progress
from tools.bench.rivals.report import Lines, headline, machine, spread, table
from tools.bench.rivals.roster import ROSTER

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> bool:
    """Measure, print the table, write JSON lines, and return whether no contestant failed."""
    cores = os.cpu_count() or 1
    parser = bench_parser(__doc__, data=True, images=1000, rounds=3, epochs=2)
    parser.add_argument(
        "--threads", nargs="+", type=int, default=sorted({1, 2, cores, 2 * cores}), help="numbers of threads"
    )
    parser.add_argument("--workload", default="W1", choices=("W1", "W2", "W3"), help="default: %(default)s")
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=["ours", "folder-io", "work", "decode"],
        choices=ROSTER,
        metavar="NAME",
        help=" ".join(ROSTER),
    )
    given = parser.parse_args(arguments)
    about = machine()
    rates: dict[tuple[str, int], list[float]] = {}
    well = True
    with Lines(given.out / "bench_threads.jsonl", threads=given.threads, rounds=given.rounds) as lines:
        for _ in range(given.rounds):
            for threads in given.threads:
                arena = Arena(
                    data=given.data.resolve(),
                    environments=given.data.resolve(),
                    workers=threads,
                    rounds=1,
                    epochs=given.epochs,
                    images=given.images,
                    say=progress,
                )
                for result in arena.run([given.workload], given.contestants, lines):
                    rates.setdefault((result.contestant, threads), []).extend(result.rates)
                    well = well and result.failure is None
    print(f"{headline(about)}; {given.workload}, images/s, {given.rounds} rounds\n")
    rows = [
        [ROSTER[name].title, *(f"{spread(rates[name, threads])['median']:,.0f}" for threads in given.threads)]
        for name in given.contestants
        if all(rates.get((name, threads)) for threads in given.threads)
    ]
    print(table(["threads or processes", *map(str, given.threads)], rows))
    return well


if __name__ == "__main__":
    sys.exit(not main())
