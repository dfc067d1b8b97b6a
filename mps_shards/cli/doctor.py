"""The command ``mps-shards doctor``."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_json, say_next
from mps_shards.cli.shared_options import device_options, json_option, store_options, store_options_given
from mps_shards.errors import ShardsError
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.inspect.process_limits import ProcessLimits
    from mps_shards.inspect.survey import ReadingSpeed

__all__ = ["command"]


@click.command("doctor")
@device_options("check")
@click.option(
    "--set", "shards", metavar="SET", help="Shard set (folder or URL) whose reading speed is measured as well."
)
@click.option("--quick", is_flag=True, help="Skip the check that starts a process and takes seconds.")
@store_options
@json_option("the findings")
@click.pass_context
def command(
    ctx: click.Context, device: str, transfer: str | None, shards: str | None, quick: bool, as_json: bool
) -> None:
    """Check that batches arrive on the device unchanged, and explain how they get there.

    The check sends all 256 byte values, random batches and labels to the device and back, and compares them bit for bit
    with ToTensor. It also reports how many files this process may open and how long a new process takes to start. With
    --set, it times reading from that set. The exit code is 1 if anything is wrong.

    \b
    Examples:
      mps-shards doctor
      mps-shards doctor --device mps --json
      mps-shards doctor --set ./imgs-shards
      mps-shards doctor --set s3://bucket/imgs-shards --quick
    """
    from mps_shards import native
    from mps_shards.inspect.device_diagnosis import BATCH_SHAPE, diagnose
    from mps_shards.inspect.process_limits import process_limits
    from mps_shards.inspect.survey import reading_speed
    from mps_shards.reading.read_options import ReadOptions

    found = diagnose(device, transfer)
    limits = process_limits(start=not quick)
    reading, unread = None, []
    try:
        reading = None if shards is None else reading_speed(shards, ReadOptions(store=store_options_given()))
    except ShardsError as error:
        unread.append(str(error))
    problems = (*found.problems, *limits.problems, *unread)
    if as_json:
        decoding = {"native_kernel": native.is_available(), "advice": native.advice()}
        say_json({**asdict(found), "problems": problems, "decoding": decoding, "process": limits, "reading": reading})
    else:
        click.echo(f"machine    {found.machine}")
        click.echo(f"versions   {', '.join(f'{name} {number}' for name, number in found.versions.items())}")
        click.echo(f"decoding   {native.advice()}")
        if found.transfer:
            click.echo(f"transfer   {found.transfer}")
        if found.wrong_values is not None:
            click.echo(f"x / 255    {256 - found.wrong_values} of 256 byte values exact on the device")
        if found.batch_ms is not None:
            shape = "x".join(map(str, BATCH_SHAPE))
            click.echo(f"batch      {shape} there and back in {found.batch_ms:.1f} ms, equal to ToTensor bit for bit")
        _say_process(limits)
        if reading is not None:
            _say_reading(reading)
        for hazard in found.hazards:
            issues = f" (pytorch {', '.join(hazard.issues)})" if hazard.issues else ""
            click.echo(f"known      {hazard.what}{issues}; remedy: {hazard.remedy}")
        for problem in problems:
            click.echo(f"PROBLEM    {problem}")
        click.echo("all is well" if not problems else counted(len(problems), "problem"))
        if not problems:
            say_next(*(("pack", "SOURCE") if shards is None else ("bench", shards)))
    ctx.exit(1 if problems else 0)


def _say_process(limits: "ProcessLimits") -> None:
    most = "" if limits.open_files_most == limits.open_files else f" (ulimit -n can allow {limits.open_files_most:,})"
    click.echo(f"files      {limits.open_files:,} may be open at once{most}")
    if limits.start_s is not None:
        click.echo(f"processes  a spawned worker process takes {limits.start_s:.1f} s to start; threads start at once")


def _say_reading(reading: "ReadingSpeed") -> None:
    origin = "by a ranged request" if reading.remote else "from the disk" if reading.cold else "from the page cache"
    opening, one = 1000 * reading.open_s, 1000 * reading.latency_s
    click.echo(f"set        opened in {opening:,.0f} ms, one sample read in {one:,.2f} ms, {origin}")
    speed = (
        f"{reading.samples / reading.seconds:,.0f} per second, {megabytes(round(reading.bytes / reading.seconds))}/s"
    )
    click.echo(f"           {counted(reading.samples, 'sample')} at random by {reading.workers} threads: {speed}")
