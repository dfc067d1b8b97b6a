"""The command ``mps-shards stats``."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mps_shards.cli.output import say_broken, say_json, say_next, say_table
from mps_shards.cli.shared_options import json_option, read_options, sample_options, workers_option
from mps_shards.cli.usage_errors import checked
from mps_shards.progress_bar import Bar
from mps_shards.wording import counted, megabytes, percent

if TYPE_CHECKING:
    from collections import Counter

    from mps_shards.inspect.survey import Survey
    from mps_shards.reading.read_options import ReadOptions

__all__ = ["command", "surveyed"]

_KINDS = ("min", "median", "mean", "max")
_BAR = 30  # characters of the longest bar
_MOST_WEIGHTS = 20  # classes whose weights are printed; for more classes, only the JSON output has them
_MOST = 40  # classes that are listed as text


def _chart_path(path: Path) -> None:
    from mps_shards.inspect.charts import chart_path

    chart_path(path)


@click.command("stats")
@click.argument("shards", metavar="SET")
@sample_options
@workers_option()
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=checked(_chart_path),
    help="Write charts to this PNG, SVG or PDF file.",
)
@click.option(
    "--sample-weights",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a weight for each sample to this .npy file, for Balance(samples=numpy.load(FILE)). Samples of rare "
    "classes get larger weights.",
)
@read_options
@json_option("the figures")
@click.pass_context
def command(
    ctx: click.Context,
    shards: str,
    samples: int | None,
    seed: int,
    workers: int | None,
    plot: Path | None,
    sample_weights: Path | None,
    as_json: bool,
    reading: "ReadOptions",
) -> None:
    """Measure classes, image sizes, formats, orientation, and the mean and std of each channel of SET.

    The command decodes every image, or a random sample. Mean and std are exact, over all pixels, and printed in the
    form that normalize= takes. For sets with label maps, it also gives each class's share of the pixels. Class weights
    for the loss function are printed ready to paste. The exit code is 1 if a sample cannot be decoded.

    \b
    Examples:
      mps-shards stats ./imgs-shards
      mps-shards stats ./imgs-shards --samples 5000 --json
      mps-shards stats ./imgs-shards --plot charts.png
      mps-shards stats ./masks-shards --sample-weights weights.npy
    """
    from mps_shards.inspect.figures import figures

    if samples is not None and sample_weights is not None:
        raise click.UsageError("--sample-weights needs a survey of the whole set: leave out --samples")
    found = surveyed(shards, samples=samples, seed=seed, workers=workers, quiet=as_json, reading=reading)
    if plot is not None:
        from mps_shards.inspect.charts import charts_file
        from mps_shards.inspect.gallery import set_title

        charts_file(found, plot, title=set_title(shards))
    if sample_weights is not None:
        _write_weights(found, sample_weights)
    if as_json:
        say_json(figures(found))
    else:
        _say(found)
        if sample_weights is not None:
            click.echo(f"\nWeights of samples in {sample_weights}")
        if plot is not None:
            click.echo(f"\nCharts in {plot}")
    say_broken(found.broken)
    if not as_json:
        unverified = [] if reading.index is None else ["--no-verify"]  # verify needs the index beside the tars
        say_next("report", shards, "-o", "report.html", *unverified, index=reading.index)
    ctx.exit(1 if found.broken else 0)


def _write_weights(found: "Survey", path: Path) -> None:
    import numpy as np

    from mps_shards.inspect.class_weights import sample_weights
    from mps_shards.storage.local_disk import replacing

    content = io.BytesIO()
    np.save(content, sample_weights(found), allow_pickle=False)
    with replacing(path) as file:
        file.write(content.getbuffer())


def surveyed(
    shards: str,
    *,
    samples: int | None,
    seed: int,
    workers: int | None,
    quiet: bool,
    reading: "ReadOptions",
) -> "Survey":
    """Return the survey of a shard set, with a progress bar while it runs."""
    from mps_shards.inspect.survey import survey

    with Bar("decode", unit="images", quiet=quiet) as bar:
        return survey(
            shards,
            samples=samples,
            seed=seed,
            workers=workers,
            reading=reading,
            on_start=bar.expect,
            on_sample=bar.advance,
        )


def _say(found: "Survey") -> None:
    from mps_shards.inspect.figures import figures, normalize_line

    tally = found.tally
    drawn = "" if found.seed is None else f", drawn by seed {found.seed} from {found.manifest.samples:,}"
    click.echo(f"{counted(tally.samples, 'image')} decoded{drawn}; {found.manifest.task}\n")
    if not tally.samples:
        return
    sizes = ", ".join(f"{wide} x {tall} ({count:,})" for (wide, tall), count in tally.sizes.most_common(3))
    shown = figures(found)
    rows = [
        ("format", _listed(tally.formats)),
        ("mode", _listed(tally.modes)),
        ("sizes", sizes + (f", {len(tally.sizes) - 3:,} others" if len(tally.sizes) > 3 else "")),
        *((name, _spread_line(shown[name])) for name in ("width", "height")),
        ("aspect", _spread_line(shown["aspect"], digits=2)),
        ("file size", _spread_line({name: value / 1e3 for name, value in shown["bytes"].items()}, digits=1) + " KB"),
        ("files", megabytes(sum(tally.bytes))),
        ("EXIF", _orientation_line(tally.orientations)),
    ]
    click.echo("\n".join(f"{name:<10} {value}" for name, value in rows))
    if classes := shown["classes"]:
        click.echo()
        _say_shares("class", "images", classes)
    if shown["numbers"]:
        click.echo()
        rows = [(name, *(f"{each[kind]:,.4g}" for kind in _KINDS)) for name, each in shown["numbers"].items()]
        say_table(("target", *_KINDS), rows)
    if shown["caption_words"]:
        click.echo(f"captions   {_spread_line(shown['caption_words'])} words")
    if tally.mask_pixels:
        click.echo()
        _say_masks(found)
    click.echo()
    say_table(
        ("channel", "mean", "std"),
        [
            (name, f"{mean:.6f}", f"{std:.6f}")
            for name, mean, std in zip(("red", "green", "blue"), tally.mean(), tally.std(), strict=True)
        ],
    )
    _say_weights(shown["class_weights"])
    click.echo()
    click.echo(
        f"ShardDataset(…, {normalize_line(found)})"
        if all(tally.std())
        else "a channel has the same value everywhere, so normalize= cannot be used"
    )


def _say_weights(weights: dict[str, list[float]]) -> None:
    from mps_shards.inspect.class_weights import weight_lines

    if not any(weights.values()):
        return
    click.echo()
    if any(len(values) > _MOST_WEIGHTS for values in weights.values()):
        click.echo(f"Class weights of more than {_MOST_WEIGHTS} classes: see class_weights in the output of --json")
        return
    click.echo("\n".join(weight_lines(weights)))


def _say_shares(what: str, unit: str, counts: dict[str, int]) -> None:
    most, total = max(counts.values()), sum(counts.values())
    # the rarest classes matter most to a reader, so they are printed last
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    shown = ranked if len(ranked) <= _MOST else [*ranked[: _MOST // 2], *ranked[-_MOST // 2 :]]
    say_table(
        (what, unit, "share", ""),
        [
            (name, f"{count:,}", percent(count / (total or 1)), "█" * round(_BAR * count / (most or 1)))
            for name, count in shown
        ],
    )
    if len(shown) < len(ranked):
        click.echo(f"({len(ranked) - len(shown):,} classes in between; --json has them all)")


def _say_masks(found: "Survey") -> None:
    pixels = sum(found.tally.mask_pixels.values())
    say_table(
        ("class", "pixels", "in images", ""),
        [
            (
                found.class_name(value),
                f"{count / pixels:.2%}",
                f"{found.tally.mask_samples[value]:,}",
                "█" * round(_BAR * count / pixels),
            )
            for value, count in found.tally.mask_pixels.most_common()
        ],
    )


def _spread_line(values: dict[str, float], *, digits: int = 0) -> str:
    low, middle, high = (f"{values[name]:,.{digits}f}" for name in ("min", "median", "max"))
    return low if low == high else f"{low} to {high}, median {middle}"


def _listed(counts: "Counter[str]") -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _orientation_line(orientations: "Counter[int]") -> str:
    turned = sum(count for value, count in orientations.items() if value != 1)
    if not turned:
        return "all images are upright"
    return f"{counted(turned, 'image')} with an orientation other than 1, which is not applied"
