"""The output of a pack on stderr while it runs: how the source was understood, then a progress bar."""

import contextlib
import sys
from typing import TYPE_CHECKING

from mps_shards.progress_bar import Bar

if TYPE_CHECKING:
    from mps_shards.packing.understanding import Understanding

__all__ = ["ProgressDisplay"]


class ProgressDisplay:
    """Shows the progress of one pack on stderr, until the ``with`` block ends.

    Args:
        shows_bar: whether to show a progress bar; a dry run only shows how the source was understood.
    """

    def __init__(self, *, quiet: bool, shows_bar: bool = True):
        self._quiet = quiet
        self._shows_bar = shows_bar
        self._open = contextlib.ExitStack()
        self._bar: Bar | None = None

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def understood(self, understanding: "Understanding") -> None:
        """Show how the source was understood."""
        if not self._quiet:
            sys.stderr.write("".join(f"{line}\n" for line in understanding.lines()))
            sys.stderr.flush()
        total = sum(split.images for split in understanding.splits)
        bar = Bar("pack", unit="images", total=total, quiet=self._quiet or not self._shows_bar)
        self._bar = self._open.enter_context(bar)

    def advance(self, samples: int, size: int) -> None:
        """Advance the progress bar by these numbers of samples and bytes; may be called from any thread."""
        if self._bar is not None:
            self._bar.advance(samples, size)
