"""The command ``mps-shards unpack``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_json, say_next
from mps_shards.cli.shared_options import FOLDER, json_option, store_options, workers_option
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.storage.folder import Folder

__all__ = ["command"]


@click.command("unpack")
@click.argument("folder", metavar="SET", type=FOLDER)
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace existing files that have other content.")
@workers_option(default="available cores, up to 8")
@store_options
@json_option("the report")
def command(folder: "Folder", out: Path, overwrite: bool, workers: int | None, as_json: bool) -> None:
    """Write the files of SET, or of each set in the folder SET, to OUT.

    Class folders are restored bit for bit, except for images that pack --tiles has rewritten. A sample whose path does
    not show its class is written to a folder with the name of the class. Masks are written to OUT/masks and their
    images to OUT/images. A run that was stopped can be repeated: existing files with the right content are kept.

    \b
    Examples:
      mps-shards unpack ./imgs-shards ./imgs-again
      mps-shards unpack ./imgs-shards/val ./val --overwrite
      mps-shards unpack s3://bucket/imgs-shards ./imgs
    """
    from mps_shards.shardset.unpacking import unpack

    with Bar("unpack", unit="samples", quiet=as_json) as bar:
        report = unpack(folder, out, overwrite=overwrite, workers=workers, on_start=bar.expect, on_progress=bar.advance)
    if as_json:
        say_json(report)
        return
    already = f", {report.already:,} of which existed already" if report.already else ""
    sets = f" of {counted(len(report.sets), 'set')}" if len(report.sets) > 1 else ""
    what = f"{counted(report.samples, 'sample')}{sets} in {counted(report.files, 'file')}, {megabytes(report.bytes)}"
    click.echo(f"{report.out}: {what}{already}")
    if report.tiled:
        click.echo(
            f"{counted(report.tiled, 'image')} had been rewritten as tiles by pack --tiles: valid JPEGs with the "
            "pixels and metadata of the originals, but not their bytes"
        )
    if report.clashes:
        click.echo(
            f"{counted(report.clashes, 'path')} differing from others only in case or Unicode normal form, which some "
            "disks treat as equal",
            err=True,
        )
    if report.samples:
        say_next("pack", report.out)
