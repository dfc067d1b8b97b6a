"""The short benchmark behind the README's speed table: ours, webdataset, torchvision and the bare decoder, in one run.

    make bench                          two to three minutes
    make bench ARGS=--rivals            also mlx-data, SPDL, litdata and DALI, each in an environment of its own
    python -m tools.bench.images        the long one

Leaves JSON lines, the table and, where matplotlib is installed, a plot in ``bench-out``.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tools.bench import images, overhead
from tools.bench.options import bench_parser
from tools.bench.rivals.arena import Result, verdicts
from tools.bench.rivals.report import headline, machine, spread, table
from tools.bench.rivals.roster import ROSTER
from tools.bench.rivals.workloads import WORKLOADS

__all__ = ["main", "plot", "readme_table"]

SHORT = ["ours", "webdataset-pil", "webdataset-rgb8", "folder-io", "work", "decode"]
# eight whole batches, four for each of two processes: an odd one would leave a rival's second process idle
IMAGES = 512


def main(arguments: Sequence[str] | None = None) -> bool:
    """Measure, print the README's table, draw; whether all that was asked for could be measured."""
    parser = bench_parser(__doc__, images=IMAGES, rounds=2)
    parser.add_argument("--contestants", nargs="+", choices=ROSTER, default=SHORT, metavar="NAME")
    parser.add_argument("--rivals", action="store_true", help="also those in environments of their own")
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
    written = f"{readme_table(results)}\n\n{headline(about)}; `make bench`.\n"
    (given.out / "speed.md").write_text(written, encoding="utf-8")
    print(f"\nFor the README ({given.out / 'speed.md'}):\n\n{written}")
    if find_spec("matplotlib") is None:
        print("No plot: matplotlib is not installed (pip install 'mps-shards[plot]').")
    else:
        plot(results, given.out / "speed.png", subtitle=f"{about['cores']} cores of {about['cpu']}, batch 64, float32")
        print(f"Plot: {given.out / 'speed.png'}")
    return not any(result.failure for result in results)


def readme_table(results: Sequence[Result]) -> str:
    """A loader a row, a workload a column, and the ratios below."""
    names = list(dict.fromkeys(result.workload for result in results))
    found = {(result.contestant, result.workload): result for result in results}
    order = sorted(dict.fromkeys(result.contestant for result in results), key=lambda each: -found[each, names[0]].rate)
    rows = []
    for contestant in order:
        mine = [found[contestant, name] for name in names]
        first = [value for result in mine for value in result.first_batch_s]
        memory = [value for result in mine for value in result.rss_mb]
        title = ROSTER[contestant].title
        rows.append(
            [
                f"**{title}**" if ROSTER[contestant].role == "ours" else title,
                *(f"{result.rate:,.0f}" if result.rate else "not run" for result in mine),
                f"{spread(first)['median']:.2f} s" if first else "",
                f"{spread(memory)['median'] / 1000:.1f} GB" if memory else "",
            ]
        )
    titles = ["images/s", *(WORKLOADS[name].title for name in names), "first batch", "memory"]
    return table(titles, rows) + "\n\n" + "\n".join(f"* {line}" for line in verdicts(results))


def plot(results: Sequence[Result], path: Path, *, subtitle: str) -> None:
    """Bars, a panel a workload, with the spread of the rounds."""
    import_module("matplotlib").use("agg")  # by name: no stubs where it is not installed
    pyplot = import_module("matplotlib.pyplot")

    names = list(dict.fromkeys(result.workload for result in results))
    colours = {"ours": "#d9480f", "variant": "#d9480f", "rival": "#748ffc", "ceiling": "#ced4da"}
    most = max(sum(result.workload == name for result in results) for name in names)
    figure, panels = pyplot.subplots(1, len(names), figsize=(4.6 * len(names), 1.3 + 0.55 * most), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        shown = sorted((result for result in results if result.workload == name and result.rate), key=lambda r: r.rate)
        for row, result in enumerate(shown):
            rate, contestant = spread(result.rates), ROSTER[result.contestant]
            spans = [[rate["median"] - rate["min"]], [rate["max"] - rate["median"]]]
            panel.barh(row, rate["median"], 0.42, color=colours[contestant.role], xerr=spans, ecolor="#868e96")
            weight = "bold" if contestant.role == "ours" else "normal"
            words = {"textcoords": "offset points", "va": "center", "fontsize": 8, "fontweight": weight}
            panel.annotate(contestant.title, (0, row), xytext=(1, 13), **words)
            panel.annotate(f"{rate['median']:,.0f}", (rate["max"], row), xytext=(5, 0), **words)
        panel.set_title(WORKLOADS[name].title, fontsize=11, loc="left", pad=10)
        panel.set_xlim(0, 1.15 * max(max(result.rates) for result in shown))
        panel.set_ylim(-0.5, len(shown) - 0.2)
        panel.set_yticks([])
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(labelsize=8, colors="#868e96")
    figure.suptitle(f"Images a second: {subtitle}", x=0.01, ha="left", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(not main())
