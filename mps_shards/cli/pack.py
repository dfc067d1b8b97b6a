"""``mps-shards pack``."""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from mps_shards.pack import pack

if TYPE_CHECKING:
    from mps_shards.pack.layouts.listing import Listing
    from mps_shards.pack.run import PackReport

__all__ = ["command"]


@click.command("pack", short_help="Pack a folder of images into WebDataset shards.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--layout", type=click.Choice(["auto", "classes", "splits", "flat"]), default="auto", show_default=True)
@click.option("--shard-size", default="256MB", show_default=True, help="Size of a shard at most (256MB, 1GiB).")
@click.option("--shard-samples", type=click.IntRange(min=1), help="Samples of a shard, instead of a size.")
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Mix the classes over the shards.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffle.")
@click.option(
    "--keys",
    type=click.Choice(["stem", "name"]),
    default="stem",
    show_default=True,
    help="Name samples by path without extension, or with it (for a.jpg beside a.png).",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: the cores, 8 at most]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(source: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Pack the images in SOURCE into tar shards in OUT (default: SOURCE-shards).

    Finds out by itself whether SOURCE holds class folders (cat/x.jpg), splits of them (train/cat/x.jpg), or images
    without labels. Files are stored as they are. Equal folders give equal bytes, whatever the number of workers.

    \b
    Examples:
      mps-shards pack ./imgs
      mps-shards pack ./imgs /data/imgs-shards --shard-size 1GB
      mps-shards pack ./frames --layout flat --no-shuffle
    """
    signal.signal(signal.SIGTERM, _stop)
    with _Progress(quiet=as_json) as progress:
        report = pack(source, out, on_listing=progress.listed, on_progress=progress.advance, **options)
    if as_json:
        click.echo(json.dumps(asdict(report), default=str, indent=2))
    else:
        click.echo(_summary(report))


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception, so that what was written is taken back


class _Progress:
    """A bar on stderr where that is a terminal; else one line saying what was found."""

    def __init__(self, *, quiet: bool):
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *failure: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def listed(self, listing: "Listing") -> None:
        if self._quiet:
            return
        click.echo(f"Found {listing.describe()}", err=True)
        if listing.empty:
            click.echo(f"Left out, no images inside: {', '.join(listing.empty)}", err=True)
        if listing.ignored:
            kinds = ", ".join(f"{count} {name}" for name, count in listing.ignored.most_common(5))
            click.echo(f"Ignored {sum(listing.ignored.values())} files that are no images ({kinds})", err=True)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), "images", TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("pack", total=sum(len(split.entries) for split in listing.splits))
            self._bar.start()

    def advance(self, samples: int, size: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, samples)


def _summary(report: "PackReport") -> str:
    lines = []
    for done in report.sets:
        shards = f"{done.shards} shard{'s' if done.shards != 1 else ''}"
        lines.append(f"{done.folder}: {done.samples:,} samples in {shards}, {done.bytes / 1e6:,.1f} MB")
    samples, size = sum(done.samples for done in report.sets), sum(done.bytes for done in report.sets)
    rate = f"{samples / report.seconds:,.0f} images/s, {size / 1e6 / report.seconds:,.0f} MB/s"
    lines.append(f"Packed {samples:,} images in {report.seconds:.1f} s ({rate})")
    return "\n".join(lines)
