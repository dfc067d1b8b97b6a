"""The command ``mps-shards repair``."""

from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_json, say_next, say_table
from mps_shards.cli.shared_options import FOLDER, json_option, store_options, workers_option
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted

if TYPE_CHECKING:
    from mps_shards.shardset.repairs import RepairReport
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]

_MAX_ROWS = 50  # losses that are printed


@click.command("repair")
@click.argument("folder", metavar="SET", type=FOLDER)
@click.option("--dry-run", is_flag=True, help="Report what would be done, and change nothing.")
@click.option("--no-salvage", is_flag=True, help="Drop damaged shards entirely, including their sound samples.")
@click.option(
    "--trust-manifest",
    is_flag=True,
    help="Keep task and class names of a malformed manifest.json, although no shard can prove them.",
)
@workers_option("Number of shards to read at the same time")
@store_options
@json_option("the report")
def command(
    folder: "WritableFolder", dry_run: bool, no_salvage: bool, trust_manifest: bool, workers: int | None, as_json: bool
) -> None:
    """Rebuild index and manifest of SET from its sound samples, and report exactly what was lost.

    Damaged shards are moved to SET/quarantine; nothing is deleted. Their samples that are provably complete are written
    to new shards. A set without damage is not changed. A repair that was stopped is finished by the next one.

    \b
    Examples:
      mps-shards repair ./imgs-shards --dry-run
      mps-shards repair ./imgs-shards
      mps-shards repair s3://bucket/imgs-shards
    """
    from mps_shards.shardset.repairs import repair

    with Bar(f"repair {folder}", unit="bytes", quiet=as_json) as bar:
        report = repair(
            folder,
            dry_run=dry_run,
            salvage=not no_salvage,
            trust_manifest=trust_manifest,
            workers=workers,
            on_start=bar.expect,
            on_progress=bar.advance,
        )
    if as_json:
        say_json(report)
    else:
        _say(report)


def _say(report: "RepairReport") -> None:
    if not report.steps:
        click.echo(f"{report.folder}: nothing to repair ({counted(report.after, 'sample')})")
        say_next("verify", report.folder, "--decode")
        return
    click.echo(
        f"{report.folder}: {'would be repaired; nothing was changed (--dry-run)' if report.dry_run else 'repaired'}"
    )
    say_table(("step", "file", "why"), [(step.what, step.where, step.why) for step in report.steps])
    if report.lost:
        lost = sum(loss.samples for loss in report.lost)
        click.echo(f"Lost: {counted(lost, 'sample')}")
        rows = [
            (
                loss.shard,
                loss.key or ("" if loss.sample is None else f"number {loss.sample}"),
                str(loss.samples),
                loss.why,
            )
            for loss in report.lost
        ]
        say_table(("shard", "sample", "samples", "why"), rows, most=_MAX_ROWS)
    if report.trusted:
        click.echo(f"Taken from the manifest without proof: {', '.join(report.trusted)}")
    before = "an unknown number" if report.before is None else f"{report.before:,}"
    click.echo(f"Samples: {report.after:,} of {before}")
    say_next("repair" if report.dry_run else "verify", report.folder)
