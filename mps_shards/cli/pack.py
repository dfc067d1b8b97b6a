"""The command ``mps-shards pack``."""

import contextlib
import warnings
from collections.abc import Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import click

from mps_shards.cli.declared_options import complete_options, declared_options, run_options
from mps_shards.cli.grouped_command import GroupedCommand
from mps_shards.cli.output import say_json, say_next
from mps_shards.cli.shared_options import FOLDER
from mps_shards.packing import commit, pack
from mps_shards.packing.pack_options import PackOptions
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackedSet, PackReport
    from mps_shards.storage.folder import WritableFolder

__all__ = ["command"]

_HEADINGS = {"read": "Source", "images": "Images", "masks": "Masks", "shards": "Shards", "work": "Work"}


def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {heading: [] for heading in _HEADINGS.values()}
    for bundle, option, _ in PackOptions.declared():
        groups[_HEADINGS[bundle]].append(option.name)
    groups["Work"].append("commit_out")
    return groups


@click.command("pack", cls=GroupedCommand, groups=_groups())
@click.argument("source", metavar="SOURCE", required=False)
@click.argument("out", type=FOLDER, required=False)
@declared_options(*_HEADINGS)
@click.option("--commit", "commit_out", metavar="OUT", type=FOLDER, help="Join the shards that array tasks made.")
@click.option("--yes", is_flag=True, help="Accept the first interpretation of an ambiguous SOURCE.")
@run_options
@click.pass_context
def command(
    ctx: click.Context, /, source: str | None, out: "WritableFolder | None", as_json: bool, **options: Any
) -> None:
    """Pack the images in SOURCE into tar shards in OUT, a folder or a URL (default: SOURCE-shards).

    SOURCE may be a folder of class folders (cat/x.jpg), of splits (train/cat/x.jpg) or of images without labels; a list
    of paths and labels (CSV, TSV, JSON, text); a folder with Hugging Face metadata; image and mask pairs, Pascal VOC,
    Cityscapes or COCO instances; a zip or tar archive of any of these; a Parquet file with images, a folder of them or
    of save_to_disk, or hf://datasets/NAME. Files are stored unchanged, unless an option changes them. Equal sources
    give equal bytes, with any executor. If a pack was interrupted, the same command continues it.

    \b
    Examples:
      mps-shards pack ./imgs
      mps-shards pack ./imgs /data/imgs-shards --shard-size 1GB
      mps-shards pack ./frames --layout flat --no-shuffle
      mps-shards pack ./photos --max-size 512 --split train=0.9,val=0.1
      mps-shards pack ./photos s3://bucket/photos-shards
      mps-shards pack ./imgs --dry-run
      mps-shards pack ./imgs.zip
      mps-shards pack ./train.parquet ./train-shards
      mps-shards pack ./imgs ./imgs-shards --append             when there are new images
      mps-shards pack /nfs/imgs /nfs/shards --executor ray --ray-address auto
      mps-shards pack /nfs/imgs /nfs/shards --executor array    in each task of: sbatch --array=0-63
      mps-shards pack --commit /nfs/shards                         when all tasks are done
    """
    warnings.filterwarnings("ignore", module="PIL")  # such warnings name no file; damage that matters is an error
    commit_out: WritableFolder | None = options.pop("commit_out")
    if commit_out is not None:
        if source is not None:
            raise click.UsageError("--commit takes the folder that the tasks wrote to, and no SOURCE")
        report = commit(commit_out)
    elif source is None:
        raise click.MissingParameter(ctx=ctx, param=command.params[0])
    else:
        complete_options(options)
        with _explained():
            report = pack(source, out, progress=not as_json, **options)
    if as_json:
        say_json(report)
    else:
        click.echo(_summary(report, options["dry_run"]))
        if report.finished and report.sets:
            say_next("preview", report.sets[0].folder, "-o", "sheet.png")
    if report.understanding is not None and options["dry_run"] and not options["yes"]:
        from mps_shards.packing.understanding import refuse_doubts

        refuse_doubts(report.understanding)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """After an interruption, print how to continue if some shards are finished."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        for note in getattr(stop, "__notes__", ()):
            click.echo(f"Interrupted: {note}", err=True)
        raise


def _summary(report: "PackReport", dry_run: bool) -> str:
    lines = [_set_line(each) for each in report.sets]
    samples, size = sum(each.samples for each in report.sets), sum(each.bytes for each in report.sets)
    lines += _findings(report)
    if dry_run:
        return "\n".join([*lines, f"Would pack {samples:,} images, {megabytes(size)}; nothing was written"])
    if report.already_packed and report.understanding is None:
        return "\n".join([*lines, f"Already committed: the sets in {report.out} are finished"])
    if report.already_packed:
        return "\n".join([*lines, f"Already packed: {report.out} holds these images, packed with the same options"])
    if not report.finished:
        return f"The shards of this task are finished. After all tasks, run: mps-shards pack --commit {report.out}"
    if report.understanding is None:
        return "\n".join([*lines, f"Committed {samples:,} images in {report.seconds:.1f} s"])
    rate = f"{samples / report.seconds:,.0f} images/s, {size / 1e6 / report.seconds:,.0f} MB/s"
    return "\n".join([*lines, f"Packed {samples:,} images in {report.seconds:.1f} s ({rate})"])


def _set_line(each: "PackedSet") -> str:
    line = f"{each.folder}: {each.samples:,} samples in {counted(each.shards, 'shard')}, {megabytes(each.bytes)}"
    if not each.classes:
        return line
    rare, common = min(each.classes.items(), key=itemgetter(1)), max(each.classes.items(), key=itemgetter(1))
    spread = f"{rare[1]:,}" if rare[1] == common[1] else f"{rare[1]:,} ({rare[0]}) to {common[1]:,} ({common[0]})"
    return f"{line}, {spread} per class"


def _findings(report: "PackReport") -> Iterator[str]:
    """Yield findings that a user should look at."""
    if report.kept:
        yield f"Kept {counted(report.kept, 'shard')} that an earlier run had finished"
    if report.skipped:
        shown = "; ".join(skip.reason for skip in report.skipped[:3])
        yield f"Skipped {counted(len(report.skipped), 'image')}, see {report.out}/skipped.jsonl: {shown}"
    if rotated := sum(each.rotated for each in report.sets):
        yield f"{counted(rotated, 'image')} with an EXIF orientation, which the loader does not apply; use --upright"
    if tiled := sum(each.tiled for each in report.sets):
        rest = sum(each.samples for each in report.sets) - tiled
        left = f"; {rest:,} images that cannot be rewritten without loss are not changed" if rest else ""
        yield f"Rewrote {counted(tiled, 'JPEG')} as tiles, with the same pixels{left}"
    found = report.duplicates
    if found.images:
        what = "Left out" if found.dropped else "Found"
        repeat = "repeats another" if found.images == 1 else "repeat others"
        yield f"{what} {counted(found.images, 'image')} that {repeat}: {_pairs(found.pairs)}"
    if found.conflicts:
        yield f"Labels differ in {found.conflicts:,} of these cases: {_pairs(found.conflicting)}"


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{other} (as {first})" for first, other in pairs[:3]) + (" …" if len(pairs) > 3 else "")
