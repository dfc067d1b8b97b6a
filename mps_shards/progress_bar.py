"""Display of progress on stderr: a bar on a terminal, and otherwise a line every few seconds."""

import sys
import time
from typing import Any

import click

from mps_shards.wording import megabytes

__all__ = ["Bar"]

_EVERY_S = 5.0  # interval of the lines if stderr is not a terminal


class Bar:
    """Progress display for a known or unknown total.

        with Bar("verify", unit="bytes") as bar:
            verify(folder, on_start=bar.expect, on_progress=bar.advance)

    Args:
        label: verb that names the work, such as "verify".
        unit: plural noun of what is counted, such as "images"; "bytes" are shown as sizes.
        total: number of units of the complete work; None if it is not known yet.
        quiet: show nothing.
    """

    def __init__(self, label: str, *, unit: str, total: int | None = None, quiet: bool = False):
        self._label, self._unit, self._total, self._quiet = label, unit, total, quiet
        self._done = self._size = 0
        self._began = self._reported_s = time.monotonic()
        self._rich: Any = None
        self._task: Any = None

    def __enter__(self) -> "Bar":
        if not self._quiet and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn(self._label),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[done]}"),
                progress.TimeRemainingColumn(),
            )
            self._rich = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._rich.add_task(self._label, total=self._total, done="")
            self._rich.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._rich is not None:
            self._rich.stop()

    def expect(self, total: int) -> None:
        """Set the total, once it is known."""
        self._total = total
        if self._rich is not None:
            self._rich.update(self._task, total=total)

    def advance(self, amount: int, size: int = 0) -> None:
        """Add finished work to the display. May be called from any thread; the display may lag slightly behind.

        Args:
            amount: number of finished units.
            size: number of bytes of these units, unless bytes are the unit.
        """
        self._done += amount
        self._size += size
        if self._rich is not None:
            self._rich.update(self._task, advance=amount, done=self._so_far())
        elif not self._quiet and time.monotonic() - self._reported_s >= _EVERY_S:
            self._reported_s = time.monotonic()
            left = (self._reported_s - self._began) / max(self._done, 1) * ((self._total or 0) - self._done)
            click.echo(f"{self._label}: {self._so_far()}" + (f", {left:,.0f} s left" if left > 0 else ""), err=True)

    def _so_far(self) -> str:
        """Return the progress as a text, such as ``12 of 400 images, 1.3 MB, 310 images/s, 33.0 MB/s``."""
        passed = max(time.monotonic() - self._began, 1e-3)
        size = self._done if self._unit == "bytes" else self._size
        sizes = [megabytes(size)] if size else []
        rates = [f"{megabytes(int(size / passed))}/s"] if size else []
        if self._unit == "bytes":
            sizes += [f"of {megabytes(self._total)}"] if self._total else []
            return ", ".join([" ".join(sizes), *rates])
        whole = f" of {self._total:,}" if self._total is not None else ""
        return ", ".join(
            [f"{self._done:,}{whole} {self._unit}", *sizes, f"{self._done / passed:,.0f} {self._unit}/s", *rates]
        )
