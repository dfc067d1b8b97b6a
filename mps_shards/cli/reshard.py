"""The command ``mps-shards reshard``."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mps_shards.cli.declared_options import complete_options, declared_options, run_options
from mps_shards.cli.output import say_json, say_next
from mps_shards.cli.shared_options import FOLDER
from mps_shards.packing.resharding import DEFAULTS, keys_to_drop, reshard
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackReport
    from mps_shards.packing.understanding import Understanding
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]


@click.command("reshard")
@click.argument("sets", metavar="SET…", nargs=-1, required=True, type=FOLDER)
@click.option("-o", "--out", metavar="OUT", required=True, type=FOLDER, help="Folder or URL of the new set.")
@click.option("--only", multiple=True, metavar="CLASS", help="Keep this class; may be repeated.")
@click.option("--except", "without", multiple=True, metavar="CLASS", help="Leave this class out; may be repeated.")
@click.option(
    "--drop",
    multiple=True,
    metavar="KEYS|FILE",
    help="Leave out the samples with these keys, separated by commas, or listed in a file, one on each line; may be "
    "repeated.",
)
@click.option(
    "--prefix", is_flag=True, help="Begin every key with the folder name of its set, for sets that share keys."
)
@declared_options("shards", "images", "work", defaults=DEFAULTS, without=("drop_duplicates",))
@run_options
def command(
    sets: "tuple[WritableFolder, ...]", out: "WritableFolder", drop: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Write the samples of one or more sets into a new set: merged, filtered, shuffled, split, in other shards.

    Samples are copied; images are encoded again only if an option asks for it. Classes are matched by name, and
    labels are renumbered. The given sets are not changed. If resharding was interrupted, the same command continues it.

    \b
    Examples:
      mps-shards reshard ./day1 ./day2 -o ./both --shuffle
      mps-shards reshard ./imgs-shards -o ./pets --only cat --only dog
      mps-shards reshard ./imgs-shards -o ./parts --split train=0.9,val=0.1
      mps-shards reshard ./imgs-shards -o ./clean --drop bad-keys.txt
      mps-shards reshard s3://bucket/imgs-shards -o ./small --max-size 256
    """
    complete_options(options)
    if options["only"] and options["without"]:
        raise click.UsageError("name classes to keep (--only) or to leave out (--except), not both")
    keys = frozenset(key for each in drop for key in keys_to_drop(each))
    with contextlib.ExitStack() as shown:
        bars: list[Bar] = []

        def understood(understanding: "Understanding") -> None:
            total = sum(split.images for split in understanding.splits)
            quiet = as_json or options["dry_run"]
            bars.append(shown.enter_context(Bar("reshard", unit="samples", total=total, quiet=quiet)))

        report = reshard(
            sets,
            out,
            drop=keys,
            on_understanding=understood,
            on_progress=lambda samples, size: bars[0].advance(samples, size),
            **options,
        )
    if as_json:
        say_json(report)
    else:
        click.echo("\n".join(_lines(report, dry_run=options["dry_run"])))
        if report.finished:
            say_next("info", report.out)


def _lines(report: "PackReport", *, dry_run: bool) -> Iterator[str]:
    for each in report.sets:
        size = f"{counted(each.samples, 'sample')} in {counted(each.shards, 'shard')}, {megabytes(each.bytes)}"
        yield f"{each.folder}: {size}"
    for what, count in report.ignored.items():
        yield f"Left out: {counted(count, 'sample')} {what}"
    if tiled := sum(each.tiled for each in report.sets):
        yield f"{counted(tiled, 'JPEG')} are tiles now, with the same pixels"
    if report.kept:
        yield f"Kept {counted(report.kept, 'shard')} that an earlier run had finished"
    if dry_run:
        yield "Nothing was written"
    elif not report.finished:
        yield f"The shards of this task are finished. After all tasks, run: mps-shards pack --commit {report.out}"
