"""Short benchmark for the speed chart of the README: this package, webdataset, torchvision and the bare decoder.

    make bench                          two to three minutes
    make bench ARGS=--rivals            also mlx-data, SPDL, litdata and DALI, each in its own virtual environment
    python -m tools.bench.images        the long benchmark

Writes JSON lines, the tables and, if matplotlib is installed, a chart to ``bench-out``.
"""

import sys
from collections.abc import Sequence

from mps_shards.inspect.charts import has_matplotlib
from tools.bench import images, overhead
from tools.bench.options import bench_parser
from tools.bench.rivals.arena import verdicts
from tools.bench.rivals.report import headline, machine
from tools.bench.rivals.roster import ROSTER
from tools.bench.speed import draw_speed, read_run, speed_tables

__all__ = ["main"]

SHORT = ["ours", "webdataset-pil", "webdataset-rgb8", "folder-io", "work", "decode"]
# eight full batches, four for each of two processes: with an odd number, a rival's second process would be idle
IMAGES = 512


def main(arguments: Sequence[str] | None = None) -> bool:
    """Measure, print tables, draw a chart, and return whether every contestant could be measured."""
    parser = bench_parser(__doc__, images=IMAGES, rounds=2)
    parser.add_argument(
        "--contestants", nargs="+", choices=ROSTER, default=SHORT, metavar="NAME", help="default: " + " ".join(SHORT)
    )
    parser.add_argument("--rivals", action="store_true", help="measure all contestants, also in their own environments")
    given = parser.parse_args(arguments)
    entered = list(ROSTER) if given.rivals else given.contestants
    about = machine()
    common = ["--out", str(given.out), "--data", str(given.out / "data"), "--images", str(given.images)]
    environments = ["--environments", str(given.out / "environments")]
    results = images.main(
        [*common, *environments, "--rounds", str(given.rounds), "--contestants", *entered], quiet=True
    )
    print(images.report(about, results))
    overhead.main([*common, "--rounds", str(2 * given.rounds + 1)])
    lines = given.out / "bench_images.jsonl"
    machine_line, summaries = read_run(lines)
    verdict_lines = "\n".join(f"* {line}" for line in verdicts(results))
    written = f"{speed_tables(summaries)}\n\n{verdict_lines}\n\n{headline(about)}; `make bench`.\n"
    (given.out / "speed.md").write_text(written, encoding="utf-8")
    print(f"\nTables ({given.out / 'speed.md'}):\n\n{written}")
    if has_matplotlib():
        draw_speed(machine_line, summaries, given.out / "speed.svg")
        print(f"Chart: {given.out / 'speed.svg'}")
    else:
        print("No chart: matplotlib is not installed (pip install 'mps-shards[plot]').")
    print(f"To fill README.md and docs/benchmarks.md: python -m tools.scripts.draw_speed {lines} --pages")
    return not any(result.failure for result in results)


if __name__ == "__main__":
    sys.exit(not main())
