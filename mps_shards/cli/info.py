"""``mps-shards info``."""

import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command("info", short_help="Show what a shard set holds.")
@click.argument("folder", metavar="SET", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(folder: Path, as_json: bool) -> None:
    """Show what the shard set in SET holds: task, classes, counts, sizes, and how it was packed.

    \b
    Examples:
      mps-shards info ./imgs-shards
      mps-shards info ./imgs-shards/train --json
    """
    import msgspec

    from mps_shards.read.shardset import read_manifest

    manifest = read_manifest(folder)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(manifest), indent=2))
        return
    packed = manifest.packed
    order = "in the order of their paths" if packed.seed is None else f"shuffled with seed {packed.seed}"
    shown = ", ".join(manifest.classes[:12]) + (" …" if len(manifest.classes) > 12 else "")
    rows = [
        ("task", manifest.task),
        ("samples", f"{manifest.samples:,}"),
        ("classes", f"{len(manifest.classes)}" + (f" ({shown})" if shown else "")),
        ("shards", f"{len(manifest.shards)}, {manifest.bytes / 1e6:,.1f} MB"),
        ("packed", f"from {packed.layout}, {order}, by mps-shards {packed.version}"),
        ("fingerprint", manifest.fingerprint),
    ]
    click.echo("\n".join(f"{name:<12} {value}" for name, value in rows))
