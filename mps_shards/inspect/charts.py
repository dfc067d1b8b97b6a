"""Charts of a survey, drawn by matplotlib (the extra ``plot``) in the colours of contact sheets and reports.

`charts_file` writes them as one picture, `chart_svgs` gives them for a page that sets light and dark colours itself.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mps_shards.errors import ConfigError
from mps_shards.storage.local_disk import replacing
from mps_shards.wording import counted

if TYPE_CHECKING:
    from mps_shards.inspect.survey import Survey

__all__ = [
    "FAINT",
    "FILL",
    "INK",
    "LINE",
    "PAPER",
    "chart_path",
    "chart_style",
    "chart_svgs",
    "charts_file",
    "has_matplotlib",
    "size_sentence",
]

_MOST_COLUMNS = 4  # regression targets that get a chart
_MOST_DOTS = 300  # image sizes that get a dot each
_MOST = 30  # classes that get a bar with a name; more are drawn as one ranked curve
PAPER, INK, FAINT, LINE, FILL = "#fafaf7", "#1c1e22", "#6b6e76", "#e4e3dd", "#3b6fb6"
# The same names as in the style of the page, which gives them other values in dark mode.
_PAGE = {PAPER: "--card", INK: "--ink", FAINT: "--faint", LINE: "--line", FILL: "--fill"}
# Okabe and Ito's palette, which people with a colour vision deficiency can tell apart (jfly.uni-koeln.de/color).
_CHANNELS = {"red": "#d55e00", "green": "#009e73", "blue": "#0072b2"}
_VARIABLES = {**_PAGE, **{colour: f"--{name}" for name, colour in _CHANNELS.items()}}
_NOT_INLINE = re.compile(r' xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', re.DOTALL)  # only files need these
_SOLID: dict[str, Any] = {"color": FILL, "histtype": "stepfilled"}  # one shape: bars would have seams between them
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "svg.fonttype": "none",
    "svg.hashsalt": "mps-shards",  # equal charts give equal bytes
}


def has_matplotlib() -> bool:
    """Return whether matplotlib is installed, which draws the charts."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def charts_file(found: "Survey", path: Path, *, title: str) -> None:
    """Write classes (or label-map pixels), image sizes, file sizes and channel values as one figure.

    Args:
        title: name of the set, shown above the charts.

    Raises:
        ConfigError: matplotlib is not installed, or the name does not end in a format of charts.
        StorageError: the file cannot be written.
    """
    path = chart_path(path)
    with chart_style():
        from matplotlib.figure import Figure

        charts = _charts(found)
        columns = 2 if len(charts) == 4 else min(3, len(charts))
        rows = -(-len(charts) // columns)
        figure = Figure(figsize=(5.6 * columns + 0.4, 4.2 * rows + 0.6), facecolor=PAPER)
        figure.set_layout_engine("constrained", w_pad=0.2, h_pad=0.15)
        figure.suptitle(f"{title}   {_summary(found)}", x=0.02, ha="left", fontsize=14)
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for place, draw in zip(places, charts, strict=False):
            draw(place, found)
        for place in places[len(charts) :]:
            place.set_axis_off()
        content = io.BytesIO()
        figure.savefig(content, dpi=120, format=path.suffix[1:].lower())
        with replacing(path) as file:
            file.write(content.getvalue())


def chart_path(path: Path) -> Path:
    """Return the path of a file for charts, with the extension ``.png`` if it has none.

    Raises:
        ConfigError: the extension is none of ``.png``, ``.svg``, ``.pdf``.
    """
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"charts are written as .png, .svg or .pdf, not as {path.suffix}")
    return path


def chart_svgs(found: "Survey") -> list[str]:
    """Return each chart but that of few classes, which the page lists, as an SVG in colours of the page's style."""
    with chart_style():
        from matplotlib.figure import Figure

        pictures = []
        for draw in _charts(found, listed=_MOST):
            figure = Figure(figsize=(4.4, 3.1), layout="constrained")
            figure.patch.set_alpha(0)
            draw(figure.subplots(), found)
            content = io.StringIO()
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
            svg = content.getvalue()
            svg = re.sub(_NOT_INLINE, "", svg[svg.index("<svg") :])
            for colour, variable in _VARIABLES.items():
                svg = svg.replace(colour, f"var({variable})")
            pictures.append(svg)
        return pictures


def size_sentence(found: "Survey") -> str | None:
    """Return a sentence if all images have the same size; None if the sizes need a chart."""
    if len(found.tally.sizes) != 1:
        return None
    ((width, height),) = found.tally.sizes
    return f"Every image has {width} x {height} pixels."


def chart_style() -> Any:
    """Return a context in which matplotlib draws in the style of this project.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(f"charts need matplotlib ({error}): run pip install 'mps-shards[plot]'") from error
    return matplotlib.rc_context(_STYLE)


def _charts(found: "Survey", *, listed: int = 0) -> list[Callable[[Any, "Survey"], None]]:
    classes = [_draw_classes] if len(found.tally.mask_pixels or found.tally.labels) > listed else []
    sizes = [] if size_sentence(found) else [_draw_sizes]
    numbers = [
        functools.partial(_draw_numbers, column=column) for column in range(min(_MOST_COLUMNS, columns_of(found)))
    ]
    captions = [_draw_captions] if found.tally.caption_words else []
    return [*classes, *numbers, *captions, *sizes, _draw_file_sizes, _draw_values]


def _summary(found: "Survey") -> str:
    same = size_sentence(found)
    return f"{counted(found.tally.samples, 'image')} decoded" + (f"; {same[0].lower()}{same[1:-1]}" if same else "")


def _draw_classes(axes: Any, found: "Survey") -> None:
    masks = bool(found.tally.mask_pixels)
    counts = found.tally.mask_pixels if masks else found.tally.labels
    scale, unit = (100 / sum(counts.values()), "% of pixels") if masks else (1.0, "images")
    ranked = [(found.class_name(number), count * scale) for number, count in counts.most_common()]
    axes.set_title("Pixels per class" if masks else "Images per class")
    if len(ranked) > _MOST:
        classes = [(name, share) for name, share in ranked if name != "ignored"]
        return _draw_ranked(axes, classes, unit, of=len(found.manifest.classes))
    names, values = [name for name, _ in reversed(ranked)], [value for _, value in reversed(ranked)]
    axes.barh([_short(name) for name in names], values, color=FILL, height=min(0.7, 0.16 * len(ranked)))
    room = max(0, 4 - len(ranked)) / 2  # a few bars are drawn in the middle of the chart
    axes.set(xlabel=unit, xlim=(0, max(values) * 1.12), ylim=(-0.7 - room, len(ranked) - 0.3 + room))
    if not masks:
        _whole_numbers(axes.xaxis)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:,.1f}" if masks else f" {value:,.0f}", va="center", fontsize=8, color=FAINT)
    axes.tick_params(axis="y", labelsize=8 if len(ranked) > 12 else 10, length=0)


def _draw_ranked(axes: Any, ranked: Sequence[tuple[str, float]], unit: str, *, of: int) -> None:
    """Draw many classes as one curve by rank, and name the most frequent and the rarest, with how many others tie."""
    from matplotlib.ticker import StrMethodFormatter

    values = [value for _, value in ranked]
    axes.fill_between(range(1, len(values) + 1), values, step="mid", color=FILL, alpha=0.25, linewidth=0)
    axes.step(range(1, len(values) + 1), values, where="mid", color=FILL)
    ends = [f"{what}: {_with_ties(ranked[place], values)}" for what, place in (("most", 0), ("fewest", -1))]
    axes.text(0.98, 0.95, "\n".join(ends), transform=axes.transAxes, ha="right", va="top", fontsize=9)
    number = f"{len(values):,} of {of:,} classes occur" if len(values) < of else counted(len(values), "class")
    axes.set(xlabel=f"rank of the class ({number})", ylabel=unit)
    axes.set(ylim=(0, max(values) * 1.25), xlim=(0, len(values) + 1))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= max(values)])  # no grid line through the text
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _with_ties(named: tuple[str, float], values: Sequence[float]) -> str:
    name, value = named
    others = values.count(value) - 1
    return f"{_short(name)}{f' and {others:,} more' if others else ''} ({value:,.4g})"


def _draw_sizes(axes: Any, found: "Survey") -> None:
    """Draw a dot for each size, or the density where so many dots would cover each other."""
    sizes = found.tally.sizes
    widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
    if len(sizes) > _MOST_DOTS:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("shades", [f"{FILL}22", FILL])
        counts = list(sizes.values())
        hexagons = {"reduce_C_function": np.sum, "gridsize": 24, "mincnt": 1, "linewidths": 0.2}
        axes.hexbin(widths, heights, C=counts, cmap=shades, **hexagons)
    else:
        of_one = min(
            36.0, 300 / max(sizes.values())
        )  # areas are in proportion to the images, and none covers the chart
        areas = [max(6.0, of_one * count) for count in sizes.values()]
        axes.scatter(widths, heights, s=areas, color=FILL, alpha=0.45, linewidths=0)
    shown = " (larger: more images)" if max(sizes.values()) > 1 else ""
    shown = " (darker: more images)" if len(sizes) > _MOST_DOTS else shown
    axes.set(xlabel=f"width in pixels{shown}", ylabel="height in pixels")
    axes.set_title(f"Image sizes ({len(sizes):,} different)")
    axes.margins(0.12)
    axes.grid(axis="x")
    for axis in (axes.xaxis, axes.yaxis):
        _whole_numbers(axis)


def _draw_file_sizes(axes: Any, found: "Survey") -> None:
    sizes = np.array(found.tally.bytes) / 1e3
    axes.hist(sizes, bins=min(40, max(8, len(sizes) // 8)), **_SOLID)
    axes.axvline(float(np.median(sizes)), color=INK, linewidth=1, linestyle=":")
    _whole_numbers(axes.yaxis)
    axes.set(xlabel="KB (dotted: median)", ylabel="images")
    axes.set_title("File sizes")


def _draw_values(axes: Any, found: "Survey") -> None:
    """Draw the share of each channel value; the shares of 0 and 255 are given as text, since they dwarf the others."""
    share = found.tally.levels / max(1, found.tally.pixels) * 100
    for (name, colour), values in zip(_CHANNELS.items(), share, strict=True):
        axes.plot(range(1, 255), values[1:255], color=colour, linewidth=1.3, label=name)
    top = float(share[:, 1:255].max()) or 1.0
    axes.set(xlabel="value", ylabel="% of pixels", xlim=(0, 255), ylim=(0, top * 1.5), xticks=range(0, 256, 51))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= top])  # no grid line through the text
    for place, align, value in ((0.02, "left", 0), (0.98, "right", 255)):
        shown = " / ".join(f"{amount:.2g}" for amount in share[:, value])
        axes.text(place, 0.97, f"at {value}:\n{shown} %", transform=axes.transAxes, ha=align, va="top", fontsize=9)
    axes.set_title("Values of red, green and blue")
    axes.legend(frameon=False, fontsize=9, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 0.86))


def columns_of(found: "Survey") -> int:
    """Return the number of regression targets of a survey."""
    return len(found.tally.numbers[0]) if found.tally.numbers else 0


def _draw_numbers(axes: Any, found: "Survey", *, column: int) -> None:
    axes.hist([values[column] for values in found.tally.numbers], bins=30, **_SOLID)
    _whole_numbers(axes.yaxis)
    axes.set(xlabel=_short(found.manifest.column_names[column]), ylabel="images")
    axes.set_title(f"Target: {_short(found.manifest.column_names[column])}")


def _draw_captions(axes: Any, found: "Survey") -> None:
    axes.hist(found.tally.caption_words, bins=range(max(found.tally.caption_words) + 2), align="left", **_SOLID)
    _whole_numbers(axes.yaxis)
    axes.set(xlabel="words in a caption", ylabel="images")
    axes.set_title("Captions")


def _whole_numbers(axis: Any) -> None:
    """Label an axis of counts or of pixels with whole numbers."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:15]}…{name[-8:]}"
