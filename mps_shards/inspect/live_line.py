"""A live line for an epoch: in a terminal, in a notebook, or one line at the end elsewhere."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from mps_shards.loader import DeviceLoader

__all__ = ["watch"]

_NOTEBOOK_UPDATE_S = 0.25  # a notebook sends every update to the browser


def watch(loader: "DeviceLoader", label: str = "epoch", *, console: "Console | None" = None) -> "Iterator[Any]":
    """Iterate over the loader's batches, and show how fast they come, whether training waits, and what was skipped.

        for epoch in range(90):
            for images, targets in watch(loader, f"epoch {epoch}"):
                ...

    The line is written to stderr. A notebook shows it below the cell, needs no ipywidgets for that, and keeps the last
    line when it is saved.

    Args:
        label: text at the beginning of the line.
        console: a console of rich to write to instead of stderr.
    """
    from rich.console import Console

    chosen = console or Console(stderr=True)
    line = _line_for(chosen, label, _length(loader))
    batch: list[Any] = []
    try:
        for number, content in enumerate(loader, 1):
            batch.append(content)
            del content  # so that this frame keeps no batch that the user has dropped
            line.update(number, loader)
            yield batch.pop()
    finally:
        line.close(loader)


class _Line(Protocol):
    def update(self, batches: int, loader: "DeviceLoader") -> None: ...

    def close(self, loader: "DeviceLoader") -> None: ...


def _line_for(console: "Console", label: str, total: int | None) -> _Line:
    if console.is_jupyter:
        return _NotebookLine(label, total)
    return _TerminalLine(console, label, total) if console.is_terminal else _LastLine(console, label)


class _TerminalLine:
    """A progress bar that rich keeps up to date."""

    def __init__(self, console: "Console", label: str, total: int | None):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        figures = TextColumn("{task.fields[figures]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, TimeRemainingColumn())
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(label, total=total, figures="")
        self._progress.start()

    def update(self, batches: int, loader: "DeviceLoader") -> None:
        self._progress.update(self._task, completed=batches, figures=_figures(loader))

    def close(self, loader: "DeviceLoader") -> None:
        self._progress.update(self._task, figures=_figures(loader))
        self._progress.stop()


class _NotebookLine:
    """Text below a cell that is replaced in place, and that a saved notebook keeps."""

    def __init__(self, label: str, total: int | None):
        from IPython.display import display  # every notebook has IPython

        self._label, self._total, self._batches = label, total, 0
        self._next_update = 0.0
        show: Any = display
        self._shown: Any = show({"text/plain": f"{label}: starting"}, raw=True, display_id=True)

    def update(self, batches: int, loader: "DeviceLoader") -> None:
        self._batches = batches
        if time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + _NOTEBOOK_UPDATE_S
            self._show(loader)

    def close(self, loader: "DeviceLoader") -> None:
        self._show(loader)

    def _show(self, loader: "DeviceLoader") -> None:
        of = f"/{self._total}" if self._total is not None else ""
        text = f"{self._label}: {self._batches}{of} batches, {loader.stats().summary()}"
        self._shown.update({"text/plain": text}, raw=True)


class _LastLine:
    """One line at the end, where output is not a terminal, such as a log file."""

    def __init__(self, console: "Console", label: str):
        self._console, self._label = console, label

    def update(self, batches: int, loader: "DeviceLoader") -> None: ...

    def close(self, loader: "DeviceLoader") -> None:
        self._console.print(f"{self._label}: {loader.stats().summary()}", highlight=False, soft_wrap=True)


def _figures(loader: "DeviceLoader") -> str:
    stats = loader.stats()
    skipped = f", {stats.skipped:,} skipped" if stats.skipped else ""
    return f"{stats.images_per_s:,.0f} images/s, waited {stats.starved:.0%}{skipped}"


def _length(loader: "DeviceLoader") -> int | None:
    try:
        return len(loader)
    except TypeError:  # the number of batches is not known in advance
        return None
