"""The command ``mps-shards index``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mps_shards.cli.output import say_json, say_next
from mps_shards.cli.shared_options import json_option, store_options, store_options_given, workers_option
from mps_shards.cli.usage_errors import checked, contradictions
from mps_shards.errors import StorageError
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.shards.field_choice import FieldChoice
    from mps_shards.shards.manifest import Task
    from mps_shards.shardset.indexing import AdoptReport

__all__ = ["command"]


def _chosen(image: str | None, target: str | None, **options: Any) -> "FieldChoice | None":
    from mps_shards.shards.field_choice import FieldChoice

    return FieldChoice.parsed(image, target, **options)


@click.command("index")
@click.argument("named", metavar="TARS…", nargs=-1, required=True)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder to write manifest and index to.  [default: beside the tars]",
)
@click.option(
    "--image",
    metavar="FIELDS",
    callback=checked(lambda fields: _chosen(fields, None)),
    help='Fields to take the image from, in order of preference, such as "jpg;png;webp".',
)
@click.option(
    "--target",
    metavar="FIELDS",
    callback=checked(lambda fields: _chosen(None, fields)),
    help="Field to take the target from, such as cls, json:label, seg.png or txt; none for no target.",
)
@click.option(
    "--task",
    type=click.Choice(["classification", "multilabel", "regression", "captions", "segmentation", "unlabeled"]),
    help="Task of the targets, if it does not follow from the name of the field.",
)
@click.option(
    "--columns",
    metavar="NAMES",
    help="Names of the numbers in the JSON field that are the target, such as age,height, for regression.",
)
@click.option(
    "--classes",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with one class name per line; the first line names class 0.",
)
@workers_option("Number of tars to read at the same time")
@store_options
@json_option("the report")
def command(
    named: tuple[str, ...],
    out: Path | None,
    image: str | None,
    target: str | None,
    task: "Task | None",
    columns: str | None,
    classes: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Check existing WebDataset tars and write a manifest and an index for them.

    TARS are folders, tar files, or URLs of either; braces expand. An indexed set can be shuffled, resumed at once
    and divided among ranks, like a set made by `mps-shards pack`. Every byte is read once. The tars are not changed,
    and nothing is written if one of them is damaged. To read a set that was indexed with --out, call
    ShardDataset(tars, read_options=ReadOptions(index=DIR)).

    Fields that are not named are guessed. The target is cls (a class index) or mask.png (a label map); without either,
    it is txt (a caption), or there is none. The image is the only field whose name is an extension of image files.
    Labels that are names need --classes.

    \b
    Examples:
      mps-shards index ./laion-tars
      mps-shards index ./imagenet-tars --classes names.txt
      mps-shards index s3://bucket/laion --image "jpg;webp" --target json:label
      mps-shards index ./cc3m-tars --target txt
      mps-shards index ./faces-tars --columns age,height
      mps-shards index ./celeba-tars --task multilabel --target json:attributes --classes names.txt
      mps-shards index "https://host/train-{000000..000099}.tar" --out ./train-index
    """
    from mps_shards.reading.source_opening import expanded
    from mps_shards.shardset.indexing import adopt, index_labels
    from mps_shards.storage.location import locate

    names = _names(classes) if classes else []
    columns_named = tuple(name.strip() for name in (columns or "").split(",") if name.strip())
    with contradictions():
        choice = _chosen(image, target, task=task, columns=columns_named)
    locations = locate(expanded(named), index=out, options=store_options_given())
    for location in locations:
        folder = location.index or location.folder
        if location.names is None and (added := index_labels(folder, workers=workers)) is not None:
            if as_json:
                say_json({"folder": str(location.folder), "labels": added})
            else:
                click.echo(
                    f"{location.folder} is a shard set already; labels.npy was added ({counted(added, 'label')})"
                )
            continue
        with Bar(f"index {location.folder}", unit="bytes", quiet=as_json) as bar:
            report = adopt(
                location,
                out=location.index,
                choice=choice,
                classes=names,
                workers=workers,
                on_start=bar.expect,
                on_progress=bar.advance,
            )
        if as_json:
            say_json(report)
        else:
            _say(report, chosen=target is not None)


def _names(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read class names from {path}: {error}") from error


def _say(report: "AdoptReport", *, chosen: bool) -> None:
    size = f"{counted(report.samples, 'sample')} in {counted(report.shards, 'shard')}, {megabytes(report.bytes)}"
    click.echo(f"{report.folder}: {size}")
    fields = ", ".join(f"{name} ({number:,})" for name, number in report.fields.items())
    by = f", target {' or '.join(report.target)}" if report.target else ""
    click.echo(f"Read as {report.task}{by}; the samples have the fields {fields}")
    if report.passed_over:
        passed_over = " and ".join(f"{number:,} {kind}" for kind, number in report.passed_over.items())
        click.echo(f"Left out, because they belong to no sample: {passed_over}")
    if report.task == "unlabeled" and len(report.fields) > 1 and not chosen:
        click.echo("No target was found. Name one with --target, such as json:label or seg.png")
    if report.task == "captions" and not chosen:
        click.echo("The texts are read as captions. --target names another target, such as json:label, or none")
    if report.out != report.folder:
        click.echo(
            f"Manifest and index are in {report.out}. To read the tars with them: "
            f'ShardDataset(…, read_options=ReadOptions(index="{report.out}"))'
        )
    if report.task == "classification" and not report.classes:
        click.echo(f"Labels go up to {report.largest_label} and have no names; --classes FILE names them")
    if report.repeated_key is not None:
        click.echo(f"Some keys occur in several shards, such as {report.repeated_key!r}; reading is not affected")
    elsewhere = Path(report.out) if report.out != report.folder else None
    say_next("preview", report.folder, "-o", "sheet.png", index=elsewhere)
