"""``mps-shards reshard``."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mps_shards.cli.output import say_json
from mps_shards.cli.path_arguments import HERE
from mps_shards.cli.progress_bar import Bar
from mps_shards.wording import counted, megabytes

__all__ = ["command"]


def _shares(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    shares = {}
    for text in given:
        name, _, share = text.partition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not like train=0.9") from None
    return shares


@click.command("reshard")
@click.argument("sets", metavar="SET…", nargs=-1, required=True, type=HERE)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the new set.")
@click.option("--shard-size", default="256MB", show_default=True, help="Size of a shard at most (256MB, 1GiB).")
@click.option("--shard-samples", type=click.IntRange(min=1), help="Samples of a shard, instead of a size.")
@click.option("--only", multiple=True, metavar="CLASS", help="Keep this class; may be repeated.")
@click.option("--except", "without", multiple=True, metavar="CLASS", help="Leave this class out; may be repeated.")
@click.option("--shuffle", is_flag=True, help="Mix all samples; else their order stays.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --shuffle and --split.")
@click.option("--prefix", is_flag=True, help="Begin keys with their set's folder name, where sets share keys.")
@click.option("--split", multiple=True, metavar="NAME=SHARE", callback=_shares, help="Make one set each in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(sets: tuple[Path, ...], out: Path, as_json: bool, **options: Any) -> None:
    """Write the samples of one or more sets into a new one: merged, filtered, shuffled, in shards of another size.

    Images are never encoded anew. Classes are matched by name, and labels renumbered. OUT appears when all of it is
    written; the sets stay as they are.

    \b
    Examples:
      mps-shards reshard ./day1 ./day2 -o ./both --shuffle
      mps-shards reshard ./imgs-shards -o ./pets --only cat --only dog
      mps-shards reshard ./imgs-shards -o ./parts --split train=0.9 --split val=0.1
    """
    from mps_shards.shardset.resharding import ReshardOptions, reshard

    signal.signal(signal.SIGTERM, _stop)
    with Bar("reshard", unit="samples", quiet=as_json) as bar:
        report = reshard(sets, out, ReshardOptions(**options), on_start=bar.expect, on_progress=bar.advance)
    if as_json:
        say_json(report)
        return
    for made in report.sets:
        size = f"{counted(made.samples, 'sample')} in {counted(made.shards, 'shard')}, {megabytes(made.bytes)}"
        click.echo(f"{made.folder}: {size}")
    if report.left_out:
        click.echo(f"Left out: {counted(report.left_out, 'sample')} of other classes")


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception, so that what was written is taken back
