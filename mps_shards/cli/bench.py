"""The command ``mps-shards bench``."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from mps_shards.cli.output import say_json, say_next, say_table
from mps_shards.cli.shared_options import device_options, given_options, json_option, read_options, workers_option
from mps_shards.cli.transform_option import transform_named, transform_option
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes

if TYPE_CHECKING:
    from mps_shards.loader import DeviceLoader
    from mps_shards.metrics import LoaderStats
    from mps_shards.reading.read_options import ReadOptions

__all__ = ["advice", "command", "measured"]


@click.command("bench")
@click.argument("shards", metavar="SET")
@device_options("use")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Samples per batch.")
@workers_option("Number of decoding threads")
@transform_option("Transform to apply, such as train:224, evaluate:256, segment.train:512 or none.")
@click.option(
    "--decode",
    type=click.Choice(["exact", "scaled"]),
    default="exact",
    show_default=True,
    help="Decode JPEGs exactly, or smaller and faster where the transform shrinks them.",
)
@click.option("--batches", type=click.IntRange(min=2), help="Stop after this many batches.  [default: one epoch]")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Stop after this many seconds.",
)
@click.option("--compare", is_flag=True, help="Measure plain webdataset in a DataLoader as well.")
@read_options
@json_option("the figures")
def command(
    shards: str,
    device: str,
    batch_size: int,
    workers: int | None,
    transform: str,
    decode: Any,
    transfer: str | None,
    batches: int | None,
    seconds: float,
    compare: bool,
    as_json: bool,
    reading: "ReadOptions",
) -> None:
    """Measure how fast SET streams to the device, and name what limits the speed and what to change.

    The benchmark runs the real loader without training: it drops each batch and requests the next. The first batch is
    timed separately. With --compare, plain webdataset does the same work in as many DataLoader worker processes.

    \b
    Examples:
      mps-shards bench ./imgs-shards
      mps-shards bench ./imgs-shards --decode scaled --workers 8
      mps-shards bench s3://bucket/imgs-shards
      mps-shards bench ./imgs-shards --device cpu --transform evaluate:256 --compare --json
    """
    from mps_shards.dataset import ShardDataset
    from mps_shards.loader import DeviceLoader

    data = ShardDataset(shards, batch_size=batch_size, read_options=reading)  # opened to find the task
    named = transform_named(transform, task=data.task or "classification")
    options = replace(reading, decode=decode)
    data = ShardDataset(shards, batch_size=batch_size, transform=named, shuffle=True, read_options=options)
    with DeviceLoader(data, device=device, num_threads=workers, transfer=transfer) as loader:
        with Bar("bench", unit="images", quiet=as_json) as bar:
            length = None if data.num_samples is None else len(loader)
            shown = _shown_on(bar, [limit for limit in (batches, length) if limit], seconds)
            stats, first_s = measured(loader, batches=batches, seconds=seconds, on_batch=shown)
        explained = loader.explain()
    found = {"set": shards, "device": explained, "first_batch_s": first_s, **_figures(stats)}
    found["advice"] = advice(stats, decode=decode)
    if compare:
        found["webdataset"] = _of_webdataset(shards, named, stats, batch_size=batch_size, quiet=as_json)
    if as_json:
        say_json(found)
    else:
        _say(found, stats)
        _say_next_step(shards, stats, options, indexed=data.num_samples is not None)


def _figures(stats: "LoaderStats") -> dict[str, Any]:
    return {
        "images_per_s": stats.images_per_s,
        "mb_per_s": stats.bytes_read / 1e6 / stats.elapsed_s if stats.elapsed_s else 0.0,
        "starved": stats.starved,
        "requests": stats.requests,
        "bytes_fetched": stats.bytes_fetched,
        "peak_memory_bytes": _peak_memory(),
        "batches": stats.batches,
        "workers": stats.workers,
        "stages": stages(stats),
        "bottleneck": stats.bottleneck(),
    }


def _of_webdataset(shards: str, transform: Any, ours: "LoaderStats", *, batch_size: int, quiet: bool) -> dict[str, Any]:
    from mps_shards.inspect.webdataset_rival import rival

    size = {"batch_size": batch_size, "workers": ours.workers, "batches": ours.batches}
    with Bar("webdataset", unit="images", total=ours.batches * batch_size, quiet=quiet) as bar:
        return rival(shards, transform, **size, on_images=bar.advance)


def _shown_on(bar: Bar, batches: Sequence[int], seconds: float) -> "Callable[[LoaderStats], None]":
    """Return a function that advances a progress bar after each batch of a measurement.

    Args:
        batches, seconds: limits; the measurement ends at the first of them.
    """
    began, shown = time.perf_counter(), 0

    def show(stats: "LoaderStats") -> None:
        nonlocal shown
        until = seconds * stats.batches / (time.perf_counter() - began)  # batches at this speed within the time limit
        bar.expect(round(stats.images / stats.batches * min([until, *batches])))
        bar.advance(stats.images - shown)
        shown = stats.images

    return show


def _say_next_step(shards: str, stats: "LoaderStats", reading: "ReadOptions", *, indexed: bool) -> None:
    """Suggest the command that tries the first remedy for the bottleneck, or that finds another cause."""
    if not indexed:
        say_next("index", shards)
    elif stats.bottleneck() == "decode" and reading.decode == "exact":
        say_next("bench", shards, *given_options(leave_out=("decode", "compare")), "--decode", "scaled")
    else:
        say_next("doctor", *([] if reading.index else ["--set", shards]))


def measured(
    loader: "DeviceLoader",
    *,
    batches: int | None = None,
    seconds: float = 10.0,
    consume: Callable[[Any], object] = lambda batch: None,
    on_batch: "Callable[[LoaderStats], None]" = lambda stats: None,
) -> "tuple[LoaderStats, float]":
    """Return the loader's statistics after the first batch, and the seconds that they cover.

    Args:
        batches, seconds: limits; the measurement ends at the first of them, or at the end of the epoch.
        consume: called with each batch in place of a training step.
        on_batch: called with the statistics so far after each batch.
    """
    first_s, began = 0.0, time.perf_counter()
    start = stats = None
    for batch in loader:
        stats = loader.stats()
        if start is None:
            start, first_s = stats, time.perf_counter() - began
        consume(batch)
        on_batch(stats)
        del batch  # otherwise this loop would keep one batch more than a training loop does
        if stats.batches == batches or time.perf_counter() - began > seconds:
            break
    if stats is None or start is None:
        return loader.stats(), 0.0
    if stats.batches < 2:
        return stats, first_s
    # requests to a store count from the start, because blocks are fetched far ahead, often before the first batch
    asked = {name: getattr(stats, name) for name in ("requests", "bytes_fetched", "request_retries")}
    return replace(stats.since(start), **asked), first_s


def stages(stats: "LoaderStats") -> dict[str, dict[str, float]]:
    """Return the seconds of each stage, and their share of the workers' or of the training loop's time."""
    of_workers = {stage: getattr(stats, f"{stage}_s") for stage in ("read", "decode", "transform", "assemble")}
    of_workers["wait"] = stats.blocked_s
    work, loop = stats.elapsed_s * stats.workers or 1.0, stats.elapsed_s or 1.0
    found = {name: {"seconds": seconds, "share": seconds / work} for name, seconds in of_workers.items()}
    found["transfer"] = {"seconds": stats.send_s, "share": stats.send_s / loop}
    found["starved"] = {"seconds": stats.starved_s, "share": stats.starved}
    return found


def advice(stats: "LoaderStats", *, decode: str = "exact") -> str:
    """Name what limits the speed, and the option that changes it."""
    found = stats.bottleneck()
    if found == "nothing":
        return "no batch was delivered, because the set holds no samples"
    if found == "loop":
        return f"device-bound: {1 - stats.starved:.0%} of the time went into the training loop; the loader keeps up"
    if found == "transfer":
        return (
            f"transfer-bound: the loop spent {stats.send_s / stats.elapsed_s:.0%} of the time sending batches, and the "
            f"workers waited {stats.blocked:.0%} of theirs; try another --transfer, and check the device with "
            "`mps-shards doctor`"
        )
    from mps_shards.storage.cores import available_cores

    ways = {
        "read": "raise --workers, so that more reads run at the same time, or copy the set to a local disk",
        "decode": ("try --decode scaled, or " if decode == "exact" else "") + "pack again with --max-size 512",
        "transform": "try a smaller size in --transform, or move work to the device with normalize= and Collate(mix=…)",
        "assemble": "try a smaller size in --transform, or a smaller --batch-size",
    }
    shares = stats.shares()
    if shares[found] < 0.5:
        listed = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
        return f"loader-bound, but no single stage dominates ({listed}): use more or faster cores, or smaller images"
    cores = available_cores()
    more = f"; {cores} cores are available: try --workers {cores}" if stats.workers < cores and found != "read" else ""
    what = "JPEG decode" if found == "decode" else found
    return f"{found}-bound: {shares[found]:.0%} of the workers' busy time went into {what}; {ways[found]}{more}"


def _say(found: dict[str, Any], stats: "LoaderStats") -> None:
    click.echo(f"device     {found['device']}")
    click.echo(f"speed      {found['images_per_s']:,.0f} images/s, {found['mb_per_s']:,.1f} MB/s of images")
    measured = f"{counted(stats.images, 'image')} in {stats.elapsed_s:.2f} s, by {counted(stats.workers, 'worker')}"
    click.echo(f"measured   {measured}; first batch after {found['first_batch_s']:.2f} s")
    if stats.requests:
        fetched = f"{megabytes(stats.bytes_fetched)} fetched, {counted(stats.request_retries, 'attempt')} repeated"
        click.echo(f"store      {counted(stats.requests, 'request')}, {fetched}")
    click.echo(f"memory     {megabytes(found['peak_memory_bytes'])}, the peak of this process\n")
    whose = {"transfer": "the loop's", "starved": "the loop's"}
    per_image = 1000 / max(1, stats.images)
    say_table(
        ("stage", "share", "ms per image", ""),
        [
            (
                name,
                f"{part['share']:.0%} of {whose.get(name, 'workers')}",
                f"{part['seconds'] * per_image:.2f}",
                _MEANS[name],
            )
            for name, part in found["stages"].items()
        ],
    )
    click.echo(f"\n{found['advice']}")
    if stats.batches < 10:
        click.echo(
            f"(too few batches for a reliable figure: {stats.batches}; use a larger set or a smaller --batch-size)"
        )
    if rival := found.get("webdataset"):
        ours, theirs = found["images_per_s"], rival["images_per_s"]
        click.echo(
            f"\nplain webdataset, num_workers={rival['processes']}, one run, after ours: {theirs:,.0f} images/s "
            f"(ours {ours / theirs:.2f} times that), first batch after {rival['first_batch_s']:.2f} s"
        )


_MEANS = {
    "read": "bytes from storage",
    "decode": "image files to pixels",
    "transform": "crop, resize, flip",
    "assemble": "pixels into the batch",
    "wait": "for the loop to take a batch",
    "transfer": "issuing copies to the device",
    "starved": "waiting for a batch",
}


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
