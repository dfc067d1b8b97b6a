"""The command ``mps-shards info``."""

from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_json, say_next, say_table
from mps_shards.cli.shared_options import FOLDER, json_option, store_options
from mps_shards.errors import StorageError
from mps_shards.wording import counted, megabytes, printable

if TYPE_CHECKING:
    from mps_shards.shards.manifest import Manifest
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]


@click.command("info")
@click.argument("folder", metavar="SET", type=FOLDER)
@store_options
@json_option("the manifest")
def command(folder: "WritableFolder", as_json: bool) -> None:
    """Show the task, classes, counts and sizes of SET, and how it was packed.

    For a folder of sets, the command prints a table with one row per set.

    \b
    Examples:
      mps-shards info ./imgs-shards
      mps-shards info ./imgs-shards/train --json
      mps-shards info s3://bucket/imgs-shards
    """
    import msgspec

    from mps_shards.shardset.opening import read_manifest, set_folders

    found = set_folders(folder)
    if found and found != [folder]:
        manifests = {place.name: read_manifest(place) for place in found}
        if as_json:
            say_json({"sets": {name: msgspec.to_builtins(manifest) for name, manifest in manifests.items()}})
        else:
            _say_sets(manifests)
            say_next("report", folder, "-o", "report.html")
        return
    if not found and (tars := _foreign_tars(folder)):
        size = sum(map(folder.size, tars))
        if as_json:
            say_json({"foreign": {"tars": tars, "bytes": size}})
        else:
            click.echo(f"{folder} holds {counted(len(tars), 'tar')} without a manifest, {megabytes(size)}.")
            click.echo("They can be streamed as they are; an index lets them be shuffled, resumed and counted.")
            say_next("index", folder)
        return
    manifest = read_manifest(folder)
    if as_json:
        say_json(msgspec.to_builtins(manifest))
    else:
        _say(manifest)
        say_next("preview", folder, "-o", "sheet.png")


def _foreign_tars(folder: "WritableFolder") -> list[str]:
    """Return the tars of a folder without an unfinished pack; an empty list if the folder cannot be listed."""
    try:
        names = folder.names()
    except StorageError:
        return []
    return [] if any(name.endswith(".part") for name in names) else [name for name in names if name.endswith(".tar")]


def _say_sets(manifests: dict[str, "Manifest"]) -> None:
    rows = [
        (
            name,
            manifest.task,
            f"{manifest.samples:,}",
            str(len(manifest.classes)),
            str(len(manifest.shards)),
            megabytes(manifest.bytes),
            manifest.fingerprint[:12],
        )
        for name, manifest in manifests.items()
    ]
    say_table(("set", "task", "samples", "classes", "shards", "size", "fingerprint"), rows)


def _say(manifest: "Manifest") -> None:
    packed = manifest.packed
    order = "not shuffled" if packed.seed is None else f"shuffled with seed {packed.seed}"
    shown = ", ".join(manifest.classes[:12]) + (" …" if len(manifest.classes) > 12 else "")
    options = ", ".join(f"{name} {value}" for name, value in packed.options.items() if value is not None)
    rows = [
        ("task", manifest.task),
        ("samples", f"{manifest.samples:,}"),
        ("classes", f"{len(manifest.classes)}" + (f" ({shown})" if shown else "")),
        ("ignored id", "" if manifest.ignore_index is None else str(manifest.ignore_index)),
        ("shards", f"{len(manifest.shards)}, {megabytes(manifest.bytes)}"),
        ("packed", f"from {packed.layout}, {order}, by mps-shards {packed.version}"),
        ("options", options),
        ("fingerprint", manifest.fingerprint),
    ]
    click.echo("\n".join(f"{name:<12} {printable(value)}" for name, value in rows if value))
