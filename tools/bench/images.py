"""Measure images per second of this package, its rivals and the bare decoder: centre crop, random crop, no transform.

python -m tools.bench.images                       contestants that are installed with the project
python -m tools.bench.images --rivals              also rivals with virtual environments, which are created on first use
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
    """Measure, print the tables, write JSON lines, and return the results.

    Args:
        workloads: workloads that the command line may name; all of them are the default.
        name: name of the file with the JSON lines.
        quiet: print no tables.
    """
    parser = bench_parser(__doc__, data=True, workers=2, rounds=3, epochs=2)
    parser.add_argument(
        "--workloads", nargs="+", default=list(workloads), choices=workloads, metavar="W", help=" ".join(workloads)
    )
    parser.add_argument("--contestants", nargs="+", choices=ROSTER, metavar="NAME", help=" ".join(ROSTER))
    parser.add_argument("--rivals", action="store_true", help="measure rivals with their own environments as well")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path("bench-out/environments"),
        help="folder of the rivals' virtual environments (default: %(default)s)",
    )
    parser.add_argument("--images", type=int, help="number of images, instead of the workload's own number")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="how rivals start their processes")
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
    """Return the machine, a table for each workload, and ratios as text."""
    return "\n\n".join([headline(about), results_table(results), "\n".join(verdicts(results))])


if __name__ == "__main__":
    sys.exit(any(result.failure for result in main()))
