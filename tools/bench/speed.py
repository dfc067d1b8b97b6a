"""Speed chart and tables of README.md and docs/benchmarks.md, made from the JSON lines of a benchmark."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mps_shards.inspect.charts import FAINT, FILL, INK, LINE, PAPER, chart_style
from tools.bench.rivals.report import table
from tools.bench.rivals.roster import ROSTER
from tools.bench.rivals.workloads import WORKLOADS

__all__ = ["describe_run", "draw_speed", "read_run", "speed_sentence", "speed_tables"]

_RIVAL = "#a3a5aa"
_FILLS = {"ours": FILL, "variant": "#86a9d6", "rival": _RIVAL}
_HIGHLIGHTED = ("ours", "ours-tiles")

Line = Mapping[str, Any]


def read_run(path: Path) -> tuple[Line, list[Line]]:
    """Return the description of the machine and the results of a run of ``tools.bench.images``.

    Raises:
        ValueError: the file holds no results, for instance because the run was stopped.
    """
    about, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    results = [line for line in lines if "result" in line]
    if not results:
        raise ValueError(f"{path} holds no results: run python -m tools.bench.images --rivals to its end")
    return about, results


def describe_run(about: Line) -> str:
    """Return machine, date and method of a run as one line."""
    day = time.strptime(about["when"][:10], "%Y-%m-%d")
    system = about["system"].split()
    return (
        f"{about['cpu']}, {about['cores']} cores, {system[0]} {system[-1]}; {about['workers']} threads or processes; "
        f"batch 64, float32 on the CPU; {day.tm_mday} {time.strftime('%B %Y', day)}"
    )


def draw_speed(about: Line, results: Sequence[Line], path: Path) -> None:
    """Draw a panel of bars for each workload and a row for each loader, with the bare decoder as a dashed line.

    A rival that took part in several variants is shown by its fastest on each workload.

    Args:
        path: file to write; its ending chooses the format (``.svg`` or ``.png``).

    Raises:
        ConfigError: matplotlib is not installed.
    """
    panels = {name: _shown(results, name) for name in _workloads(results)}
    titles = _ranked(list(panels.values()))
    # text as outlines: a viewer without the font would draw wider letters over one another
    with chart_style(), _outlines():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.4 + 2.75 * len(panels), 1.65 + 0.34 * len(titles)), facecolor=PAPER)
        figure.set_layout_engine("constrained", rect=(0.018, 0.02, 0.97, 0.96 - 0.62 / (1.65 + 0.34 * len(titles))))
        above = 1 / figure.get_figheight()
        figure.text(
            0.018, 1 - 0.16 * above, "Images per second (bars: medians, thin lines: ranges)", va="top", fontsize=14
        )
        figure.text(0.018, 1 - 0.44 * above, describe_run(about), va="top", fontsize=9, color=FAINT)
        places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, shown) in zip(places, panels.items(), strict=True):
            _draw_panel(axes, name, [shown.get(title) for title in titles], _ceiling(results, name))
        places[0].set_yticks(range(len(titles)), titles, fontsize=10, color=INK)
        for label, title in zip(places[0].get_yticklabels(), titles, strict=True):
            label.set_fontweight("bold" if _is_highlighted(panels, title) else "normal")
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _outlines() -> Any:
    import matplotlib

    return matplotlib.rc_context({"svg.fonttype": "path"})


def _draw_panel(axes: Any, name: str, shown: Sequence[Line | None], ceiling: float | None) -> None:
    most = max([ceiling or 0.0, *(line["rates"]["max"] for line in shown if line)])
    for row, line in enumerate(shown):
        if line is None:
            axes.text(most * 0.015, row, "not run", va="center", fontsize=9, color=FAINT)
            continue
        rates, ours = line["rates"], line["result"] in _HIGHLIGHTED
        axes.barh(row, rates["median"], 0.66, color=_FILLS[ROSTER[line["result"]].role if not ours else "ours"])
        axes.plot([rates["min"], rates["max"]], [row, row], color=INK, linewidth=1, solid_capstyle="butt")
        weight = "bold" if ours else "normal"
        words = {"textcoords": "offset points", "va": "center", "fontsize": 9, "fontweight": weight}
        behind = {"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}
        axes.annotate(f"{rates['median']:,.0f}", (rates["max"], row), xytext=(4, 0), bbox=behind, **words)
    if ceiling:
        axes.axvline(ceiling, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), zorder=0.9)
        axes.text(ceiling, -0.62, f"decode alone {ceiling:,.0f} ", ha="right", va="bottom", fontsize=8, color=FAINT)
    axes.set_title(f"{name}: {WORKLOADS[name].title}", fontsize=9.5)
    axes.set(xlim=(0, most * 1.2), ylim=(len(shown) - 0.45, -1.1 if ceiling else -0.55))
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=LINE)
    axes.set_xlabel("images/s", fontsize=8.5)


def _workloads(results: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line["workload"] for line in results))


def _shown(results: Sequence[Line], workload: str) -> dict[str, Line]:
    """Return one result for each loader: every variant of ours, the fastest variant of each rival."""
    best: dict[str, Line] = {}
    for line in results:
        contestant = ROSTER[line["result"]]
        if line["workload"] != workload or contestant.role == "ceiling" or "rates" not in line:
            continue
        title = contestant.title if contestant.role != "rival" else contestant.title.partition(",")[0]
        if title not in best or line["rates"]["median"] > best[title]["rates"]["median"]:
            best[title] = line
    return best


def _ranked(panels: Sequence[Mapping[str, Line]]) -> list[str]:
    """Return the titles of loaders: ours in the order of the roster, then rivals by their rates, fastest first."""
    rates: dict[str, float] = {}
    ours: dict[str, None] = {}
    for panel in panels:
        for title, line in panel.items():
            if ROSTER[line["result"]].role == "rival":
                rates.setdefault(title, line["rates"]["median"])
            else:
                ours[title] = None
    return [*ours, *sorted(rates, key=lambda title: -rates[title])]


def _is_highlighted(panels: Mapping[str, Mapping[str, Line]], title: str) -> bool:
    return any(title in panel and panel[title]["result"] in _HIGHLIGHTED for panel in panels.values())


def _rate(results: Sequence[Line], contestant: str, workload: str) -> float | None:
    for line in results:
        if (line["result"], line["workload"]) == (contestant, workload) and "rates" in line:
            return float(line["rates"]["median"])
    return None


def _ceiling(results: Sequence[Line], workload: str) -> float | None:
    return _rate(results, "decode", workload)


def speed_sentence(about: Line, results: Sequence[Line]) -> str:
    """Return one sentence with our rates divided by the fastest rival's, and the machine that measured them."""
    said = []
    for name in _workloads(results):
        rivals = [line for line in _shown(results, name).values() if ROSTER[line["result"]].role == "rival"]
        ours = _rate(results, "ours", name)
        if ours and rivals:
            best = max(rivals, key=lambda line: line["rates"]["median"])
            title = ROSTER[best["result"]].title.partition(",")[0]
            said.append(f"{ours / best['rates']['median']:.2f} on {name} ({title})")
    number = {1: "one", 2: "two", 4: "four", 8: "eight"}.get(about["cores"], about["cores"])
    compared = f", at these multiples of the fastest rival's rate: {', '.join(said)}" if said else ""
    return (
        f"Measured on a {number}-core {about['system'].split()[0]} machine ({about['cpu']}), "
        f"not on MPS{compared}. All figures, and how they were measured: [docs/benchmarks.md](docs/benchmarks.md)."
    )


def speed_tables(results: Sequence[Line]) -> str:
    """Return a Markdown table for each workload, fastest first: rates, ratios to ours, CPU, first batch and memory."""
    return "\n\n".join(
        f"**{name}: {WORKLOADS[name].title}**\n\n{_one_table(results, name)}" for name in _workloads(results)
    )


def _one_table(results: Sequence[Line], workload: str) -> str:
    ours = _rate(results, "ours", workload)
    lines = [line for line in results if line["workload"] == workload]
    rows = []
    for line in sorted(lines, key=lambda line: -line["rates"]["median"] if "rates" in line else 0.0):
        contestant = ROSTER[line["result"]]
        title = f"**{contestant.title}**" if contestant.role == "ours" else contestant.title
        if "rates" not in line:
            rows.append([title, str(line["failure"]).partition(":")[0], *[""] * 6])
            continue
        rates = line["rates"]
        memory = line.get("pss_mb") or line.get("rss_mb")
        rows.append(
            [
                title,
                f"{rates['median']:,.0f}" + (" (disturbed)" if line.get("undisturbed") == 0 else ""),
                f"{rates['min']:,.0f} to {rates['max']:,.0f}",
                f"{rates['median'] / ours:.2f}" if ours else "",
                f"{line['cpu_ms']['median']:.2f}" if "cpu_ms" in line else "",
                f"{line['first_batch_s']['median']:.2f} s" if "first_batch_s" in line else "",
                f"{memory['median'] / 1000:.2f} GB" if memory else "",
                "" if line.get("max_off") is None else f"{line['mean_off']:.3f}, {line['max_off']:.0f}",
            ]
        )
    titles = ["loader", "images/s", "range", "ratio to ours", "CPU ms an image", "first batch", "memory", "pixels off"]
    filled = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    return table([titles[column] for column in filled], [[row[column] for column in filled] for row in rows])
