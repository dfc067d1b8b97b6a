"""The command ``mps-shards preview``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mps_shards.cli.shared_options import read_options, seed_option
from mps_shards.cli.transform_option import transform_named, transform_option
from mps_shards.cli.usage_errors import checked

if TYPE_CHECKING:
    from mps_shards.reading.read_options import ReadOptions

__all__ = ["command"]


def _sheet_format(path: Path) -> None:
    from mps_shards.inspect.contact_sheet import sheet_format

    sheet_format(path)


@click.command("preview")
@click.argument("shards", metavar="SET")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    callback=checked(_sheet_format),
    help="Image file to write (PNG, JPEG or WebP).",
)
@click.option(
    "--count", type=click.IntRange(1, 1000), help="Number of samples to draw.  [default: 32, or 6 with --augment]"
)
@seed_option
@click.option(
    "--class",
    "wanted",
    metavar="CLASS",
    help="Draw only samples of this class, given by name or number, or whose label map contains it.",
)
@click.option(
    "--size", type=click.IntRange(32, 1024), default=160, show_default=True, help="Size of each picture in pixels."
)
@click.option("--augment", is_flag=True, help="Show each sample several times, as the training transform makes it.")
@click.option(
    "--times",
    type=click.IntRange(1, 7),
    default=5,
    show_default=True,
    help="Number of augmented versions per sample with --augment.",
)
@transform_option("Transform for --augment, such as train:224 or evaluate:256.")
@read_options
@click.pass_context
def command(
    ctx: click.Context,
    shards: str,
    out: Path,
    count: int | None,
    seed: int,
    wanted: str | None,
    size: int,
    augment: bool,
    times: int,
    transform: str,
    reading: "ReadOptions",
) -> None:
    """Draw samples of SET with their classes as one picture.

    Label maps are drawn in colour over a copy of the image, with a legend. With --augment each sample is shown as
    stored and then several times as the training transform makes it. The exit code is 1 if a sample cannot be decoded;
    the other samples are drawn.

    \b
    Examples:
      mps-shards preview ./imgs-shards -o sheet.png
      mps-shards preview ./imgs-shards -o cats.png --class cat --count 64
      mps-shards preview ./imgs-shards -o seen.png --augment --transform train:224
    """
    from mps_shards.cli.output import say_broken, say_next
    from mps_shards.inspect.contact_sheet import file_bytes, sheet_format
    from mps_shards.inspect.gallery import Gallery, set_title
    from mps_shards.inspect.survey import open_shard_set
    from mps_shards.progress_bar import Bar
    from mps_shards.storage.local_disk import replacing
    from mps_shards.wording import counted

    opened = open_shard_set(shards, reading)
    manifest = opened.manifest
    made = transform_named(transform, task=manifest.task) if augment else None
    gallery = Gallery(opened, size=size, transform=made, times=times if augment else 0, seed=seed)
    try:
        with Bar("preview", unit="samples") as bar:
            gallery.fill(count or (6 if augment else 32), wanted, on_start=bar.expect, on_sample=bar.advance)
    finally:
        opened.close()
    of = f"{len(gallery.tiles):,} of {counted(manifest.samples, 'sample')}"
    classes = f"   {counted(len(manifest.classes), 'class')}" if manifest.classes else ""
    how = f"   as stored, then {times} times through {transform}" if augment else ""
    sheet = gallery.draw(set_title(shards), f"{of}   {manifest.task}{classes}{how}")
    content = file_bytes(sheet, sheet_format(out))
    with replacing(out) as file:
        file.write(content)
    click.echo(f"{out}: {of}, {sheet.width} x {sheet.height} pixels")
    say_broken(gallery.broken)
    if gallery.broken and reading.index is None:
        say_next("verify", shards, "--decode")
    else:
        say_next("stats", shards, index=reading.index)
    ctx.exit(1 if gallery.broken else 0)
