"""The command ``mps-shards report``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_next, say_open
from mps_shards.cli.shared_options import FOLDER, read_options, sample_options, workers_option
from mps_shards.cli.stats import surveyed
from mps_shards.errors import ConfigError
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted

if TYPE_CHECKING:
    from mps_shards.inspect.html_page import SetPage
    from mps_shards.inspect.survey import Survey
    from mps_shards.reading.read_options import ReadOptions
    from mps_shards.shardset.verification import VerifyReport

__all__ = ["command"]


@click.command("report")
@click.argument("shards", metavar="SET")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="HTML file to write.")
@sample_options
@click.option("--count", type=click.IntRange(1, 200), default=24, show_default=True, help="Number of samples to show.")
@click.option(
    "--verify/--no-verify",
    "check",
    default=True,
    show_default=True,
    help="Check every byte against manifest and index.",
)
@workers_option()
@read_options
@click.pass_context
def command(
    ctx: click.Context,
    shards: str,
    out: Path,
    samples: int | None,
    seed: int,
    count: int,
    check: bool,
    workers: int | None,
    reading: "ReadOptions",
) -> None:
    """Write one HTML page about SET with samples, classes, sizes, channel statistics and the result of a check.

    For a folder of sets, such as the splits of one data set, the page describes each set and compares them. The page is
    a single file that opens without a network. The exit code is 1 if the check finds damage, which the page describes.

    \b
    Examples:
      mps-shards report ./imgs-shards -o report.html
      mps-shards report ./imgs-shards -o report.html --samples 5000 --no-verify
      mps-shards report ./splits -o report.html         compares ./splits/train and ./splits/val
    """
    from importlib.metadata import version

    from mps_shards.inspect.gallery import set_title
    from mps_shards.inspect.html_page import page_of
    from mps_shards.shardset.opening import set_folders
    from mps_shards.storage.local_disk import replacing

    if check and reading.index is not None:
        raise ConfigError("a set with its index in another folder cannot be verified: add --no-verify")
    folders = set_folders(FOLDER.convert(shards, None, ctx)) if reading.index is None else []
    sets = []
    for one in [folder.address for folder in folders] or [shards]:
        found = surveyed(one, samples=samples, seed=seed, workers=workers, quiet=False, reading=reading)
        verified = _verified(one, workers) if check else None
        sets.append(_set_page(one, found, verified, count=count, seed=seed, reading=reading))
    page = page_of(set_title(shards), sets, version=version("mps-shards"))
    with replacing(out) as file:
        file.write(page.encode())
    problems = sum(len(one.found.broken) + (len(one.verified.problems) if one.verified else 0) for one in sets)
    verdict = counted(problems, "problem") if problems else "all is well"
    click.echo(f"{out}: report on {counted(len(sets), 'set')}, {len(page) / 1e3:,.0f} KB, {verdict}")
    damaged = [one.verified.folder for one in sets if one.verified and one.verified.problems]
    if damaged:
        say_next("repair", damaged[0], "--dry-run")
    else:
        say_open(out, what="in a browser")
    ctx.exit(1 if problems else 0)


def _set_page(
    shards: str,
    found: "Survey",
    verified: "VerifyReport | None",
    *,
    count: int,
    seed: int,
    reading: "ReadOptions",
) -> "SetPage":
    from mps_shards.inspect.gallery import Gallery, set_title
    from mps_shards.inspect.html_page import SetPage
    from mps_shards.inspect.survey import open_shard_set

    opened = open_shard_set(shards, reading)
    gallery = Gallery(opened, size=240, seed=seed)
    try:
        with Bar("draw", unit="samples") as bar:
            gallery.fill(count, on_start=bar.expect, on_sample=bar.advance)
    finally:
        opened.close()
    return SetPage(name=set_title(shards), found=found, tiles=gallery.tiles, legend=gallery.legend(), verified=verified)


def _verified(shards: str, workers: int | None) -> "VerifyReport":
    from mps_shards.shardset.verification import verify

    with Bar("verify", unit="bytes") as bar:
        return verify(FOLDER.convert(shards, None, None), workers=workers, on_start=bar.expect, on_progress=bar.advance)
