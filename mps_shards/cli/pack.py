"""``mps-shards pack``."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

import click

from mps_shards.cli.grouped_command import GroupedCommand
from mps_shards.cli.output import say_json
from mps_shards.cli.progress_bar import Bar
from mps_shards.packing import commit, pack
from mps_shards.packing.sources import Layout
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.packing.pack_report import PackedSet, PackReport
    from mps_shards.packing.sources.listing import Listing

__all__ = ["command"]

_GROUPS = {
    "Source": ["layout", "keys", "split", "drop_duplicates", "on_bad_sample"],
    "Images": ["max_size", "resize", "format", "quality", "upright", "to_8bit", "background", "drop_alpha", "check"],
    "Masks": ["palette", "ignore_index"],
    "Shards": ["shard_size", "shard_samples", "shuffle", "seed", "overwrite", "work_dir"],
    "Work": ["distributor", "workers", "ray_address", "task_index", "num_tasks", "commit_out"],
}


@click.command("pack", cls=GroupedCommand, groups=_GROUPS)
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path), required=False)
@click.argument("out", type=click.Path(), required=False)
@click.option(
    "--layout", type=click.Choice(get_args(Layout)), default="auto", show_default=True, help="How SOURCE is read."
)
@click.option(
    "--keys",
    type=click.Choice(["stem", "name"]),
    default="stem",
    show_default=True,
    help="Name samples by path without extension, or with it (for a.jpg beside a.png).",
)
@click.option("--split", metavar="NAME=SHARE,...", help="Cut into sets by class, as train=0.9,val=0.1.")
@click.option("--max-size", metavar="PX", type=click.IntRange(min=1), help="Longer side of an image at most.")
@click.option("--resize", metavar="PX", type=click.IntRange(min=1), help="Shorter side of every image.")
@click.option(
    "--format",
    type=click.Choice(["keep", "jpeg", "webp", "png"]),
    default="keep",
    show_default=True,
    help="Encode images so, unless they are already.",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Of what is encoded as JPEG or WebP.  [default: 90]")
@click.option("--upright", is_flag=True, help="Turn images and masks as the EXIF orientation says.")
@click.option(
    "--to-8bit",
    metavar="HOW",
    help="Convert 16-bit and float images: scale (by each file's range), window=LOW,HIGH or clip.",
)
@click.option("--background", metavar="COLOUR", help="Colour behind transparent pixels (white, #808080).")
@click.option("--drop-alpha", is_flag=True, help="Keep the colours under transparent pixels; drop a fourth channel.")
@click.option(
    "--check/--no-check", default=True, show_default=True, help="Decode every image and mask to see it whole."
)
@click.option(
    "--palette", metavar="NAME|FILE", help="What colours of RGB masks mean (voc, cityscapes, CSV, JSON, text)."
)
@click.option("--ignore-index", type=click.IntRange(0, 65535), help="Label id of masks that is no class.")
@click.option("--drop-duplicates", is_flag=True, help="Of equal files pack the first; else they are only reported.")
@click.option(
    "--on-bad-sample",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Stop at what is no image, or leave it out and list it in OUT/skipped.jsonl.",
)
@click.option("--shard-size", default="256MB", show_default=True, help="Size of a shard at most (256MB, 1GiB).")
@click.option("--shard-samples", type=click.IntRange(min=1), help="Samples of a shard, instead of a size.")
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Mix the classes over the shards.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the shuffle and of --split.")
@click.option("--overwrite", is_flag=True, help="Replace the pack in OUT, finished or not.")
@click.option(
    "--work-dir", metavar="DIR", type=click.Path(), help="Where shards for a URL are made.  [default: TMPDIR]"
)
@click.option(
    "--distributor",
    type=click.Choice(["local", "ray", "array"]),
    default="local",
    show_default=True,
    help="Threads here, a Ray cluster, or one task of a job array. All write the same bytes.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: the cores, 8 at most]")
@click.option("--ray-address", help="Of the cluster (auto, host:port).  [default: RAY_ADDRESS, or a new one here]")
@click.option("--task-index", type=click.IntRange(min=0), help="Of this task, from 0.  [default: SLURM's]")
@click.option("--num-tasks", type=click.IntRange(min=1), help="In the array.  [default: SLURM's]")
@click.option("--commit", "commit_out", metavar="OUT", type=click.Path(), help="Join what tasks made.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show the shards, sizes and classes to be.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(ctx: click.Context, /, source: Path | None, out: str | None, as_json: bool, **options: Any) -> None:
    """Pack the images in SOURCE into tar shards in OUT, a folder or a URL (default: SOURCE-shards).

    Finds out by itself whether SOURCE is a folder of class folders (cat/x.jpg), of splits (train/cat/x.jpg) or of
    images without labels; a list of paths and labels (CSV, TSV, JSONL); a folder with Hugging Face metadata; image and
    mask pairs, Pascal VOC, Cityscapes or COCO instances. Files are stored as they are, unless an option changes
    them. Equal folders give equal bytes, whoever does the work. When a pack was interrupted, the same command goes on
    with it.

    \b
    Examples:
      mps-shards pack ./imgs
      mps-shards pack ./imgs /data/imgs-shards --shard-size 1GB
      mps-shards pack ./frames --layout flat --no-shuffle
      mps-shards pack ./photos --max-size 512 --split train=0.9,val=0.1
      mps-shards pack ./photos s3://bucket/photos-shards
      mps-shards pack ./imgs --dry-run
      mps-shards pack /nfs/imgs /nfs/shards --distributor ray --ray-address auto
      mps-shards pack /nfs/imgs /nfs/shards --distributor array    in each task of: sbatch --array=0-63
      mps-shards pack --commit /nfs/shards                         when they are done
    """
    signal.signal(signal.SIGTERM, _stop)
    commit_out: str | None = options.pop("commit_out")
    if commit_out is not None:
        if source is not None:
            raise click.UsageError("--commit takes the folder that the tasks wrote to, and no SOURCE")
        report = commit(commit_out)
    elif source is None:
        raise click.MissingParameter(ctx=ctx, param=command.params[0])
    else:
        if options["distributor"] == "array":
            options.update(_task(options["task_index"], options["num_tasks"]))
        report = _packed(source, out, quiet=as_json, options=options)
    if as_json:
        say_json(report)
    else:
        click.echo(_summary(report, options["dry_run"]))


def _packed(source: Path, out: str | None, *, quiet: bool, options: dict[str, Any]) -> "PackReport":
    with contextlib.ExitStack() as shown:
        bars: list[Bar] = []

        def listed(listing: "Listing") -> None:
            if not quiet:
                _tell(listing)
            total = sum(len(split.entries) for split in listing.splits)
            bars.append(shown.enter_context(Bar("pack", unit="images", total=total, quiet=quiet or options["dry_run"])))

        def advance(samples: int, size: int) -> None:
            bars[0].advance(samples, size)

        with _explained():
            return pack(source, out, on_listing=listed, on_progress=advance, **options)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say how to go on after an interruption, where there is something to go on with."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        for note in getattr(stop, "__notes__", ()):
            click.echo(f"Interrupted: {note}", err=True)
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # as an exception, so that everybody can end well


def _task(index: int | None, count: int | None) -> dict[str, int | None]:
    """Which task of how many: as given, else as SLURM says, whose arrays may be as 5-25:10."""
    if index is None and (told := os.environ.get("SLURM_ARRAY_TASK_ID")):
        first, step = (int(os.environ.get(f"SLURM_ARRAY_TASK_{name}", int(name == "STEP"))) for name in ("MIN", "STEP"))
        index = (int(told) - first) // step
    if count is None and (told := os.environ.get("SLURM_ARRAY_TASK_COUNT")):
        count = int(told)
    return {"task_index": index, "num_tasks": count}


def _tell(listing: "Listing") -> None:
    click.echo(f"Found {listing.describe()}", err=True)
    if listing.empty:
        click.echo(f"Left out, no images inside: {', '.join(listing.empty)}", err=True)
    if listing.ignored:
        kinds = ", ".join(f"{count} {name}" for name, count in listing.ignored.most_common(5))
        click.echo(f"Ignored {sum(listing.ignored.values())} files that are no images ({kinds})", err=True)


def _summary(report: "PackReport", dry_run: bool) -> str:
    lines = [_set_line(each) for each in report.sets]
    samples, size = sum(each.samples for each in report.sets), sum(each.bytes for each in report.sets)
    lines += _findings(report)
    if dry_run:
        return "\n".join([*lines, f"Would pack {samples:,} images, {megabytes(size)}; nothing was written"])
    if not report.finished:
        return f"This task's shards are done. When all tasks are: mps-shards pack --commit {report.out}"
    rate = f"{samples / report.seconds:,.0f} images/s, {size / 1e6 / report.seconds:,.0f} MB/s"
    return "\n".join([*lines, f"Packed {samples:,} images in {report.seconds:.1f} s ({rate})"])


def _set_line(each: "PackedSet") -> str:
    line = f"{each.folder}: {each.samples:,} samples in {counted(each.shards, 'shard')}, {megabytes(each.bytes)}"
    if not each.classes:
        return line
    rare, common = min(each.classes.items(), key=_count), max(each.classes.items(), key=_count)
    spread = f"{rare[1]:,}" if rare[1] == common[1] else f"{rare[1]:,} ({rare[0]}) to {common[1]:,} ({common[0]})"
    return f"{line}, {spread} a class"


def _count(counted: tuple[str, int]) -> int:
    return counted[1]


def _findings(report: "PackReport") -> Iterator[str]:
    """What people should look at."""
    if report.kept:
        yield f"Kept {counted(report.kept, 'shard')} that an earlier run had finished"
    if report.skipped:
        shown = "; ".join(skip.reason for skip in report.skipped[:3])
        yield f"Skipped {counted(len(report.skipped), 'image')}, see {report.out}/skipped.jsonl: {shown}"
    if rotated := sum(each.rotated for each in report.sets):
        yield f"{rotated:,} images bear an EXIF orientation, which the loader does not apply; --upright turns them"
    found = report.duplicates
    if found.images:
        what = "Left out" if found.dropped else "Found"
        repeat = "repeats another" if found.images == 1 else "repeat others"
        yield f"{what} {counted(found.images, 'image')} that {repeat}: {_pairs(found.pairs)}"
    if found.conflicts:
        yield f"Of these, {found.conflicts:,} with another label: {_pairs(found.conflicting)}"


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{other} (as {first})" for first, other in pairs[:3]) + (" …" if len(pairs) > 3 else "")
