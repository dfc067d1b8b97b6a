"""The command ``mps-shards verify``."""

from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_json, say_next, say_table
from mps_shards.cli.shared_options import FOLDER, json_option, store_options, workers_option
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.shardset.verification import VerifyReport
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]

_MAX_ROWS = 50  # problems that are printed


@click.command("verify")
@click.argument("folders", metavar="SET…", nargs=-1, required=True, type=FOLDER)
@click.option("--decode", is_flag=True, help="Decode every image and label map as well.")
@workers_option("Number of shards to read at the same time")
@store_options
@json_option("the reports")
@click.pass_context
def command(
    ctx: click.Context, folders: "tuple[WritableFolder, ...]", decode: bool, workers: int | None, as_json: bool
) -> None:
    """Check the tars in SET against manifest and index: sizes, SHA-256, headers, counts, keys, labels and rows.

    A folder of sets is checked set by set. The command names the damaged samples. The exit code is 1 if anything is
    wrong; `mps-shards repair` then saves the sound samples.

    \b
    Examples:
      mps-shards verify ./imgs-shards
      mps-shards verify ./imgs-shards --decode
      mps-shards verify ./train ./val --json
      mps-shards verify s3://bucket/imgs-shards
    """
    from mps_shards.shardset.opening import set_folders
    from mps_shards.shardset.verification import verify

    reports = []
    for folder in [found for named in folders for found in set_folders(named) or [named]]:
        with Bar(f"verify {folder}", unit="bytes", quiet=as_json) as bar:
            reports.append(verify(folder, decode=decode, workers=workers, on_start=bar.expect, on_progress=bar.advance))
    if as_json:
        say_json(reports)
    else:
        for report in reports:
            _say(report)
        if not any(report.problems for report in reports):
            say_next("bench", reports[0].folder)
    ctx.exit(1 if any(report.problems for report in reports) else 0)


def _say(report: "VerifyReport") -> None:
    read = f"{counted(report.samples, 'sample')} in {counted(report.shards, 'shard')}, {megabytes(report.bytes)}"
    if not report.problems:
        extent = ", every image decoded" if report.decoded else ""
        click.echo(f"{report.folder}: all is well ({read} read{extent})")
        return
    click.echo(f"{report.folder}: {counted(len(report.problems), 'problem')} ({read} read)")
    rows = [
        (
            problem.where,
            problem.kind,
            problem.key or ("" if problem.sample is None else f"number {problem.sample}"),
            problem.detail,
        )
        for problem in report.problems
    ]
    say_table(("file", "problem", "sample", "detail"), rows, most=_MAX_ROWS)
    say_next("repair", report.folder, "--dry-run")
