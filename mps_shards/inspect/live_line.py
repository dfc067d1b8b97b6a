"""A live line for an epoch: in a terminal, in a notebook, or one line at the end elsewhere."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from mps_shards.loader import DeviceLoader

__all__ = ["watch"]


def watch(loader: "DeviceLoader", label: str = "epoch", *, console: "Console | None" = None) -> "Iterator[Any]":
    """Iterate over the loader's batches, and show on stderr how fast they come, and whether training waits for them.

        for epoch in range(90):
            loader.set_epoch(epoch)
            for images, targets in watch(loader, f"epoch {epoch}"):

    Args:
        label: stands at the line's beginning.
        console: rich's, instead of stderr.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown = console or Console(stderr=True)
    live = shown.is_terminal or shown.is_jupyter
    figures = TextColumn("{task.fields[figures]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn())
    with Progress(*columns, console=shown, disable=not live) as progress:
        task = progress.add_task(label, total=_length(loader), figures="")
        for batch in loader:
            held = [batch]
            del batch  # what the user drops must not live on here
            progress.update(task, advance=1, figures=_figures(loader))
            yield held.pop()
    if not live:
        stats = loader.stats()
        shown.print(f"{label}: {stats.images:,} images in {stats.elapsed_s:.1f} s, {_figures(loader)}", highlight=False)


def _figures(loader: "DeviceLoader") -> str:
    stats = loader.stats()
    return f"{stats.images_per_s:,.0f} images/s, waited {stats.starved:.0%}"


def _length(loader: "DeviceLoader") -> int | None:
    try:
        return len(loader)
    except TypeError:  # not known before its end
        return None
