"""``mps-shards report``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mps_shards.cli.progress_bar import Bar
from mps_shards.cli.stats import surveyed
from mps_shards.errors import ConfigError

if TYPE_CHECKING:
    from mps_shards.shardset.verification import VerifyReport

__all__ = ["command"]


@click.command("report")
@click.argument("shards", metavar="SET")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="HTML file to write.")
@click.option(
    "--samples", type=click.IntRange(min=1), help="Decode only this many samples, drawn with --seed.  [default: all]"
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random choice of samples."
)
@click.option("--count", type=click.IntRange(1, 200), default=24, show_default=True, help="Number of samples to show.")
@click.option(
    "--verify/--no-verify",
    "check",
    default=True,
    show_default=True,
    help="Check every byte against manifest and index.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Number of threads.  [default: available cores]")
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
) -> None:
    """Write one HTML page about SET with samples, classes, sizes, channel statistics and the result of a check.

    The page is a single file that opens without a network. The exit code is 1 if the check finds damage, which the page
    describes.

    \b
    Examples:
      mps-shards report ./imgs-shards -o report.html
      mps-shards report ./imgs-shards -o report.html --samples 5000 --no-verify
    """
    from importlib.metadata import version

    from mps_shards.inspect.gallery import Gallery
    from mps_shards.inspect.html_page import page_of
    from mps_shards.inspect.survey import open_set
    from mps_shards.storage.local_disk import replacing

    opened = open_set(shards)  # fails at once for what is no shard set
    verified = _verified(shards, workers) if check else None
    found = surveyed(shards, samples=samples, seed=seed, workers=workers, quiet=False)
    gallery = Gallery(opened, size=240, seed=seed)
    try:
        gallery.fill(count)
    finally:
        opened.close()
    page = page_of(
        Path(shards).absolute().name,
        found,
        gallery.tiles,
        legend=gallery.legend(),
        verified=verified,
        version=version("mps-shards"),
    )
    with replacing(out) as file:
        file.write(page.encode())
    problems = len(found.broken) + (len(verified.problems) if verified else 0)
    click.echo(f"{out}: {len(page) / 1e3:,.0f} KB, " + (f"{problems} problems" if problems else "all is well"))
    ctx.exit(1 if problems else 0)


def _verified(shards: str, workers: int | None) -> "VerifyReport":
    from mps_shards.shardset.verification import verify

    if "://" in shards:
        raise ConfigError(f"{shards}: only local sets can be verified; add --no-verify")
    with Bar("verify", unit="bytes") as bar:
        return verify(Path(shards), workers=workers, on_start=bar.expect, on_progress=bar.advance)
