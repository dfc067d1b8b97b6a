"""Measure how fast archives and Parquet files are packed, beside packing the folder with the same files.

python -m tools.bench.archives                          1,000 photographs of 110 KB, 3,000 files of 20 KB
python -m tools.bench.archives --kinds tar.gz --rounds 11

Each run is a new process, and all kinds take turns in every round. A rate is divided by that of packing the folder in
the same round, for CPU and wall time; the medians are printed. The shards of an archive must hold the same bytes
as those of the folder.
"""

import io
import json
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, Others, headline, machine, spread, table, timed_command
from tools.scripts.photos import make_imagenet_like, make_photos

__all__ = ["KINDS", "main"]

FOLDER = "folder"


def _tar(folder: Path, out: Path, *, mode: str = "w") -> None:
    with tarfile.open(out, mode) as tar:  # type: ignore[call-overload]  # a mode of tarfile
        for image in _images(folder):
            tar.add(image, str(image.relative_to(folder)))


def _tar_of_tars(folder: Path, out: Path) -> None:
    """Write a tar with one tar per class, like ImageNet's training images."""
    with tarfile.open(out, "w") as outer:
        for each in sorted(folder.iterdir()):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for image in _images(each):
                    inner.add(image, image.name)
            info = tarfile.TarInfo(f"{each.name}.tar")
            info.size = len(content.getvalue())
            outer.addfile(info, io.BytesIO(content.getvalue()))


def _zip(folder: Path, out: Path, *, method: int) -> None:
    with zipfile.ZipFile(out, "w", method) as archive:
        for image in _images(folder):
            archive.write(image, str(image.relative_to(folder)))


def _zip_in_zip(folder: Path, out: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as inner:
        for image in _images(folder):
            inner.write(image, str(image.relative_to(folder)))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as outer:
        outer.writestr("data.zip", content.getvalue())


def _parquet(folder: Path, out: Path) -> None:
    """Write a Parquet file as the Hugging Face Hub does: a struct of bytes and path, and a class label."""
    import pyarrow
    import pyarrow.parquet

    classes = sorted(each.name for each in folder.iterdir())
    images = _images(folder)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": classes}}
    table = pyarrow.table(
        {
            "image": [{"bytes": image.read_bytes(), "path": image.name} for image in images],
            "label": [classes.index(image.parent.name) for image in images],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, out, row_group_size=100)


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "tar": _tar,
    "tar.gz": lambda folder, out: _tar(folder, out, mode="w:gz"),
    "zip": lambda folder, out: _zip(folder, out, method=zipfile.ZIP_DEFLATED),
    "stored.zip": lambda folder, out: _zip(folder, out, method=zipfile.ZIP_STORED),
    "tars.tar": _tar_of_tars,
    "zipped.zip": _zip_in_zip,
    "parquet": _parquet,
}
_OTHER_BYTES = ("parquet", "zipped.zip")  # kinds whose files, and therefore samples, have other names


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """Measure, print the table, write JSON lines, and return rates by kind for both sizes of files."""
    parser = bench_parser(__doc__, images=1000, rounds=7)
    parser.add_argument("--small", type=int, default=3000, help="number of files of 20 KB (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--options", default="", help="options of pack, such as '--no-check'")
    given = parser.parse_args(arguments)
    about = machine()
    rates = {}
    print(headline(about) + "\n")
    with (
        Lines(given.out / "bench_archives.jsonl", rounds=given.rounds, options=given.options) as lines,
        Others() as others,
    ):
        for name, count in (("photographs", given.images), ("small", given.small)):
            home = given.out / "data" / f"archives-{name}-{count}"
            sources = _prepared(home, name, count, given.kinds)
            runs = _measured(sources, given.rounds, given.options.split(), given.out)
            rates[name] = _rates(runs)
            lines.write({"files": name, "count": count, "runs": runs, "rates": rates[name]})
            size = sum(path.stat().st_size for path in _images(sources[FOLDER]))
            print(f"{count:,} files of {size / count / 1000:,.0f} KB\n")
            titles = ["", "CPU, s", "rate", "spread", "wall, s", "rate", "spread"]
            print(table(titles, _rows(runs, rates[name])) + "\n")
    if others.share is not None:
        print(f"{given.rounds} rounds; other processes took {others.share:.0%} of the machine")
    return rates


def _prepared(home: Path, name: str, count: int, kinds: Iterable[str]) -> dict[str, Path]:
    """Make the folder and its archives if they do not exist, read them once, and return their paths by kind."""
    folder = home / "imgs"
    if not folder.exists():
        made = home / "imgs.part"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        if name == "photographs":
            make_imagenet_like(made, count=count)
        else:
            make_photos(made, count=count, size=(230, 230))
        made.rename(folder)
    sources = {FOLDER: folder}
    for kind in kinds:
        path = home / f"imgs.{kind}"
        if not path.exists():
            part = home / f"part.{kind}"
            KINDS[kind](folder, part)
            part.rename(path)
        path.read_bytes()
        sources[kind] = path
    for image in _images(folder):
        image.read_bytes()
    return sources


def _measured(
    sources: dict[str, Path], rounds: int, options: Sequence[str], out: Path
) -> dict[str, list[dict[str, float]]]:
    """Return the CPU and wall seconds of each source in each round."""
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in sources}
    held: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=out) as place:
        for number in range(rounds + 1):  # the first round is not counted
            for kind in sources if number % 2 else reversed(sources):
                target = Path(place, "out")
                took = _packed(sources[kind], target, options)
                if number:
                    runs[kind].append(took)
                else:
                    held[kind] = [
                        (shard["name"], shard["sha256"])
                        for shard in json.loads((target / "manifest.json").read_text())["shards"]
                    ]
                shutil.rmtree(target)
    for kind, shards in held.items():
        if kind not in _OTHER_BYTES and shards != held[FOLDER]:
            raise RuntimeError(f"the shards of {sources[kind]} differ from those of {sources[FOLDER]}")
    return runs


def _packed(source: Path, target: Path, options: Sequence[str]) -> dict[str, float]:
    """Pack a source, and return the CPU and wall seconds."""
    command = [str(Path(sys.executable).with_name("mps-shards")), "pack", str(source), str(target), "--yes", *options]
    os.sync()  # so that this run does not wait for data of earlier runs
    wall, cpu = timed_command(command)
    return {"cpu": cpu, "wall": wall}


def _rates(runs: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the median rate of each kind, divided by that of the folder in the same round, for CPU and wall time."""
    return {
        kind: {
            clock: statistics.median(
                folder[clock] / run[clock] for folder, run in zip(runs[FOLDER], of_kind, strict=True)
            )
            for clock in ("cpu", "wall")
        }
        for kind, of_kind in runs.items()
    }


def _rows(runs: dict[str, list[dict[str, float]]], rates: dict[str, dict[str, float]]) -> list[list[str]]:
    rows = []
    for kind, of_kind in runs.items():
        row = [kind]
        for clock in ("cpu", "wall"):
            figures = spread([run[clock] for run in of_kind])
            row += [
                f"{figures['median']:.3f}",
                f"{rates[kind][clock]:.2f}",
                f"{figures['min']:.3f}..{figures['max']:.3f}",
            ]
        rows.append(row)
    return rows


def _images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


if __name__ == "__main__":
    main()
