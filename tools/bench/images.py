"""How many images a second, beside every rival and the bare decoder: resize and crop, random crop, as they are.

python -m tools.bench.images                       what the project has installed
python -m tools.bench.images --rivals              also those that need an environment of their own, made on first use
python -m tools.bench.images --workloads W3 --contestants ours decode
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.options import bench_parser
from tools.bench.rivals.arena import Arena, Result, progress, results_table, verdicts
from tools.bench.rivals.report import Lines, headline, machine
from tools.bench.rivals.roster import ROSTER

__all__ = ["main", "report"]

INSTALLED = [name for name, contestant in ROSTER.items() if contestant.package is None]


def main(
    arguments: Sequence[str] | None = None,
    *,
    workloads: Sequence[str] = ("W1", "W2", "W3"),
    name: str = "bench_images",
    quiet: bool = False,
) -> list[Result]:
    """Measure, print the tables, and leave JSON lines.

    Args:
        workloads: to choose from; all by default.
        name: of the file with the JSON lines.
        quiet: print no tables.
    """
    parser = bench_parser(__doc__, data=True, workers=2, rounds=3, epochs=2)
    parser.add_argument("--workloads", nargs="+", default=list(workloads), choices=workloads, metavar="W")
    parser.add_argument("--contestants", nargs="+", choices=ROSTER, metavar="NAME", help=" ".join(ROSTER))
    parser.add_argument("--rivals", action="store_true", help="also those in environments of their own")
    parser.add_argument(
        "--environments", type=Path, default=Path("bench-out/environments"), help="default: %(default)s"
    )
    parser.add_argument("--images", type=int, help="fewer than the workloads have")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="of rivals' processes")
    given = parser.parse_args(arguments)
    arena = Arena(
        data=given.data.resolve(),
        environments=given.environments.resolve(),
        workers=given.workers,
        rounds=given.rounds,
        epochs=given.epochs,
        images=given.images,
        start=given.start,
        say=progress,
    )
    contestants = given.contestants or (list(ROSTER) if given.rivals else INSTALLED)
    about = machine()
    with Lines(given.out / f"{name}.jsonl", workers=given.workers, rounds=given.rounds, start=given.start) as lines:
        results = arena.run(given.workloads, contestants, lines)
    if not quiet:
        print(report(about, results))
        print(f"\n{given.workers} threads or processes ({given.start}), {given.rounds} rounds")
    return results


def report(about: Mapping[str, Any], results: Sequence[Result]) -> str:
    """For people: machine, a table for each workload, ratios."""
    return "\n\n".join([headline(about), results_table(results), "\n".join(verdicts(results))])


if __name__ == "__main__":
    sys.exit(any(result.failure for result in main()))
