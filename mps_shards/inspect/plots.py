"""Charts of a survey with matplotlib (the extra ``plot``)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mps_shards.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from mps_shards.inspect.survey import Survey

__all__ = ["draw_charts"]

_MOST = 30  # bars in one chart; more would not be legible
_BLUE = "#3b6fb6"


def draw_charts(found: "Survey", path: Path) -> None:
    """Write classes (or mask pixels), sizes, file sizes and channel levels as one figure.

    Raises:
        ConfigError: matplotlib is not installed, or cannot write this kind of file.
        StorageError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"charts need matplotlib ({error}): pip install 'mps-shards[plot]'") from error
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (shares, sizes), (weights, levels) = figure.subplots(2, 2)
    _draw_shares(shares, found)
    _draw_sizes(sizes, found)
    weights.hist([size / 1e3 for size in found.tally.bytes], bins=40, color=_BLUE)
    weights.set(title="Bytes of an image", xlabel="KB", ylabel="images")
    for channel, colour in zip(found.tally.levels, ("#c0392b", "#27873f", "#2a5bb5"), strict=True):
        levels.plot(channel / max(1, found.tally.pixels) * 100, color=colour, linewidth=1.2)
    levels.set(title="Levels of red, green and blue", xlabel="value", ylabel="% of the pixels", xlim=(0, 255))
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path, dpi=120)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _draw_shares(axes: Any, found: "Survey") -> None:
    masks = bool(found.tally.mask_pixels)
    counts = found.tally.mask_pixels if masks else found.tally.labels
    shown = counts.most_common(_MOST)[::-1]
    scale = 100 / sum(counts.values()) if masks else 1
    axes.barh([found.class_name(number) for number, _ in shown], [count * scale for _, count in shown], color=_BLUE)
    rest = f" ({_MOST} of {len(counts):,} classes)" if len(counts) > _MOST else ""
    axes.set(title=("Pixels by class" if masks else "Images by class") + rest, xlabel="%" if masks else "images")
    axes.tick_params(axis="y", labelsize=8)


def _draw_sizes(axes: Any, found: "Survey") -> None:
    sizes = found.tally.sizes
    axes.scatter(
        [width for width, _ in sizes],
        [height for _, height in sizes],
        s=[min(400, 12 + 2 * count) for count in sizes.values()],
        color=_BLUE,
        alpha=0.4,
        linewidths=0,
    )
    axes.set(title="Sizes of the images", xlabel="width, pixels", ylabel="height, pixels", aspect="equal")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
