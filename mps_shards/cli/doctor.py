"""``mps-shards doctor``."""

import json
from dataclasses import asdict

import click

__all__ = ["command"]


@click.command("doctor", short_help="Check torch, the device, and the way batches get there.")
@click.option("--device", default="auto", show_default=True, help="auto, mps, cuda, cuda:1 or cpu.")
@click.option("--transfer", help="An engine instead of the default: inline, thread, alias, cpu.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, device: str, transfer: str | None, as_json: bool) -> None:
    """Check that batches arrive on the device as they should, and say how they get there and why.

    Sends all 256 byte values, random batches and labels there and back and compares them bit for bit with ToTensor.
    Exit code 1 if anything is wrong.

    \b
    Examples:
      mps-shards doctor
      mps-shards doctor --device mps --json
    """
    from mps_shards.feed.diagnosis import BATCH_SHAPE, diagnose

    found = diagnose(device, transfer)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo(f"machine    {found.machine}")
        click.echo(f"versions   {', '.join(f'{name} {number}' for name, number in found.versions.items())}")
        if found.transfer:
            click.echo(f"transfer   {found.transfer}")
        if found.wrong_values is not None:
            click.echo(f"x / 255    {256 - found.wrong_values} of 256 byte values exact on the device")
        if found.batch_ms is not None:
            shape = "x".join(map(str, BATCH_SHAPE))
            click.echo(f"batch      {shape} there and back in {found.batch_ms:.1f} ms, equal to ToTensor bit for bit")
        for hazard in found.hazards:
            issues = f" (pytorch {', '.join(hazard.issues)})" if hazard.issues else ""
            click.echo(f"known      {hazard.what}{issues}; here: {hazard.remedy}")
        for problem in found.problems:
            click.echo(f"PROBLEM    {problem}")
        click.echo("all is well" if not found.problems else f"{len(found.problems)} problems")
    ctx.exit(1 if found.problems else 0)
