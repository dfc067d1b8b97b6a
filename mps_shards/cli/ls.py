"""The command ``mps-shards ls``."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mps_shards.cli.shared_options import FOLDER, store_options
from mps_shards.cli.usage_errors import checked
from mps_shards.errors import ConfigError
from mps_shards.wording import printable

if TYPE_CHECKING:
    from mps_shards.shards.manifest import Manifest
    from mps_shards.shardset.conditions import Condition
    from mps_shards.shardset.contents import Listed
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]


def _parsed(condition: str) -> "Condition":
    from mps_shards.shardset.conditions import Condition

    return Condition.parsed(condition)


@click.command("ls")
@click.argument("folder", metavar="SET", type=FOLDER)
@click.option("--class", "of_class", metavar="CLASS", help="List only samples of this class, given by name or number.")
@click.option("--shard", metavar="SHARD", help="List only samples of this shard, given by file name or number.")
@click.option(
    "--where",
    metavar="CONDITION",
    multiple=True,
    callback=checked(_parsed),
    help="List only samples that fulfil this condition, such as class=cat, json:age>30, txt~dog, key=train/*, or "
    "mask.png (the sample has this field). Repeat the option for several conditions.",
)
@click.option("--keys", "only_keys", is_flag=True, help="Print only the keys.")
@click.option("-l", "--long", "long", is_flag=True, help="Print shard, number, bytes, class, fields and key.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(
    folder: "WritableFolder",
    of_class: str | None,
    shard: str | None,
    where: tuple[str, ...],
    only_keys: bool,
    long: bool,
    as_json: bool,
) -> None:
    """List the samples of SET in order, one line with class and key for each.

    The listing starts at once and uses little memory, also for large sets. No image is decoded.

    \b
    Examples:
      mps-shards ls ./imgs-shards | head
      mps-shards ls ./imgs-shards --class cat --keys
      mps-shards ls ./imgs-shards --shard 0 -l
      mps-shards ls ./faces-shards --where "age>=60" --where "key=train/*"
    """
    from mps_shards.shardset.contents import listed
    from mps_shards.shardset.opening import open_set

    stored = open_set(folder, whole=True)
    manifest = stored.manifest
    written = [*where, *([] if of_class is None else [f"class={of_class}"])]
    conditions = [_parsed(text).resolved(manifest) for text in written]
    for name in _shards(manifest, shard):
        for sample in listed(stored, name, conditions):
            click.echo(_line(sample, manifest.classes, only_keys=only_keys, long=long, as_json=as_json))


def _shards(manifest: "Manifest", named: str | None) -> Sequence[str]:
    names = [shard.name for shard in manifest.shards]
    if named is None:
        return names
    if named in names:
        return [named]
    if named.isdecimal() and int(named) < len(names):
        return [names[int(named)]]
    held = f"{len(names)}, from {names[0]} to {names[-1]}" if names else "none"
    raise ConfigError(f"{named!r} is not a shard of this set; it has {held}")


def _line(sample: "Listed", classes: Sequence[str], *, only_keys: bool, long: bool, as_json: bool) -> str:
    named = classes[sample.label] if 0 <= sample.label < len(classes) else None
    if as_json:
        shown_fields = {
            name: value for name, value in sample._asdict().items() if name != "target" or value is not None
        }
        return json.dumps({**shown_fields, "class": named})
    if only_keys:
        return printable(sample.key)
    shown = named or ("-" if sample.label < 0 else str(sample.label))
    if isinstance(sample.target, dict):
        labels = sample.target.get("labels")
        if labels is None:
            shown = ",".join(f"{name}={value:g}" for name, value in sample.target.items())
        else:
            shown = "|".join(classes[number] if number < len(classes) else str(number) for number in labels) or "-"
    elif sample.target is not None:
        shown = sample.target
    cells = [shown, sample.key]
    if long:
        size, fields = sum(sample.fields.values()), ",".join(sample.fields)
        cells = [sample.shard, str(sample.sample), str(size), shown, fields, sample.key]
    return "\t".join(map(printable, cells))
