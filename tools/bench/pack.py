"""Measure how long packing a folder takes, including start-up, beside copying the folder and other tools that pack it.

python -m tools.bench.pack                        4,000 photographs of 110 KB, warm cache
python -m tools.bench.pack --rivals               also litdata and MosaicML, each in its own virtual environment
python -m tools.bench.pack --source ./imgs        your own class folders

Each contestant runs as a new process once per round, after all earlier output has been written to disk. Only
`mps-shards pack` and contestants with "and sync" wait until their output is on disk. The output is read back and
compared with the source; this is not timed.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, Others, headline, machine, spread, table
from tools.bench.rivals.roster import NotInstalled, python_for
from tools.scripts.photos import make_imagenet_like

__all__ = ["CONTESTANTS", "Contestant", "main"]

_TARFILE = """
import sys, tarfile, time
from pathlib import Path
began = time.perf_counter()
source, out = map(Path, sys.argv[1:])
out.mkdir()
with tarfile.open(out / "shard-000000.tar", "w") as tar:
    for image in sorted(source.rglob("*.jpg")):
        tar.add(image, str(image.relative_to(source)))
print('"seconds":', time.perf_counter() - began)
"""

_SHARD_WRITER = """
import sys, time
from pathlib import Path
from webdataset import ShardWriter
began = time.perf_counter()
source, out = map(Path, sys.argv[1:])
out.mkdir()
classes = sorted(folder.name for folder in source.iterdir())
with ShardWriter(str(out / "shard-%06d.tar"), maxsize=256e6, maxcount=10**9, verbose=0) as writer:
    for image in sorted(source.rglob("*.jpg")):
        key = str(image.relative_to(source).with_suffix(""))
        writer.write({"__key__": key, "jpg": image.read_bytes(), "cls": classes.index(image.parent.name)})
print('"seconds":', time.perf_counter() - began)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to copy or pack a folder.

    Attributes:
        command: function (interpreter, source, destination) -> command to run.
        writes: "files" for plain copies, "tars", or a description of another format.
        read: for another format, function (interpreter, folder, file) -> command that writes the SHA-256 of each image
            by key to the file.
        package: package to install in a virtual environment; None for contestants that the project itself needs.
    """

    command: Callable[[str, str, str], list[str]]
    writes: str
    read: Callable[[str, str, str], list[str]] | None = None
    package: str | None = None


def _python(script: str) -> Callable[[str, str, str], list[str]]:
    return lambda python, source, out: [python, "-c", script, source, out]


def _shell(script: str) -> Callable[[str, str, str], list[str]]:
    return lambda _, source, out: ["sh", "-ec", script, "sh", source, out]


def _ours(*options: str) -> Callable[[str, str, str], list[str]]:
    return lambda python, source, out: [str(Path(python).with_name("mps-shards")), "pack", source, out, *options]


def _rival(script: str, package: str) -> Contestant:
    path = str(Path(__file__).with_name("rivals") / script)
    return Contestant(
        command=lambda python, source, out: [python, path, "write", source, out],
        writes="another format",
        read=lambda python, out, digests: [python, path, "read", out, digests],
        package=package,
    )


CONTESTANTS = {
    "cp -r": Contestant(command=_shell('cp -r "$1" "$2"'), writes="files"),
    "cp -r and sync": Contestant(command=_shell('cp -r "$1" "$2"; sync -f "$2"'), writes="files"),
    "tar cf": Contestant(command=_shell('mkdir "$2"; tar cf "$2/shard-000000.tar" -C "$1" .'), writes="tars"),
    "tar cf and sync": Contestant(
        command=_shell('mkdir "$2"; tar cf "$2/shard-000000.tar" -C "$1" .; sync -f "$2"'), writes="tars"
    ),
    "mps-shards pack": Contestant(command=_ours("--json"), writes="tars"),
    "mps-shards pack --no-check": Contestant(command=_ours("--json", "--no-check"), writes="tars"),
    "Python tarfile": Contestant(command=_python(_TARFILE), writes="tars"),
    "webdataset ShardWriter": Contestant(command=_python(_SHARD_WRITER), writes="tars"),
    "MosaicML MDSWriter": _rival("packing_mosaicml.py", "mosaicml-streaming"),
    "litdata optimize": _rival("packing_litdata.py", "litdata"),
}
INSTALLED = [name for name, contestant in CONTESTANTS.items() if contestant.package is None]
CEILING = "tar cf"


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Measure, print the table, write JSON lines, and return figures by contestant."""
    parser = bench_parser(__doc__, images=4000, rounds=7)
    parser.add_argument("--source", type=Path, help="class folders of JPEGs (default: photographs that are made)")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, metavar="NAME", help=", ".join(CONTESTANTS))
    parser.add_argument("--rivals", action="store_true", help="measure rivals with their own environments as well")
    given = parser.parse_args(arguments)
    about = machine()
    source = given.source or _photographs(given.out / "data" / f"photos-{given.images}", given.images)
    held = _digests(source)  # also warms the page cache
    entered = given.contestants or (list(CONTESTANTS) if given.rivals else INSTALLED)
    pythons = _pythons(entered, given.out / "environments")
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in pythons}
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out) as place, Others() as others:
        for _ in range(given.rounds):
            for name, python in pythons.items():
                timed[name].append(_timed(CONTESTANTS[name], python, source, Path(place, "out"), held))
    seconds = {name: [whole for whole, _ in times] for name, times in timed.items()}
    found = {
        name: {**spread(seconds[name]), "work": spread([work for _, work in times])["median"], "others": others.share}
        for name, times in timed.items()
    }
    with Lines(given.out / "bench_pack.jsonl", rounds=given.rounds, images=len(held)) as lines:
        for name, figures in found.items():
            lines.write({"contestant": name, "seconds": seconds[name], **figures})
    total = sum(path.stat().st_size for path in source.rglob("*.jpg"))
    print(headline(about))
    print(f"{len(held):,} images, {total / 1e6:,.1f} MB; {given.rounds} rounds, {_busy(others)}\n")
    print(table(["", "seconds", "spread", "after imports", "images/s", f"rate of {CEILING}"], _rows(found, len(held))))
    return found


def _pythons(names: Sequence[str], environments: Path) -> dict[str, str]:
    """Return the interpreter of each contestant that can be installed."""
    found = {}
    for name in names:
        try:
            found[name] = python_for(CONTESTANTS[name].package, environments.resolve())
        except NotInstalled as error:
            print(f"{name} is left out: {error}")
    return found


def _photographs(folder: Path, count: int) -> Path:
    if not folder.exists():
        made = folder.with_name(folder.name + ".part")
        shutil.rmtree(made, ignore_errors=True)
        make_imagenet_like(made, count=count)
        made.rename(folder)
    return folder


def _timed(contestant: Contestant, python: str, source: Path, out: Path, held: dict[str, str]) -> tuple[float, float]:
    """Run a contestant, check and remove its output; return the seconds of the run, and those after its imports."""
    os.sync()  # so that this run does not wait for data of earlier runs
    command = contestant.command(python, str(source.resolve()), str(out.resolve()))
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    if contestant.read:
        digests = out.with_suffix(".json")
        subprocess.run(contestant.read(python, str(out.resolve()), str(digests)), check=True, capture_output=True)
        written = json.loads(digests.read_text())
    else:
        written = _digests(out) if contestant.writes == "files" else _digests_in_tars(out)
    if written != held:
        raise RuntimeError(f"{' '.join(command)} wrote {len(written)} images that differ from the {len(held)} expected")
    shutil.rmtree(out)
    stated = re.findall(r'"seconds": ([0-9.e-]+)', done.stdout)
    return seconds, float(stated[-1]) if stated else seconds


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each image by its path without extension."""
    return {
        str(path.relative_to(folder).with_suffix("")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.jpg")
    }


def _digests_in_tars(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                content = tar.extractfile(info) if info.name.endswith(".jpg") else None
                if content is not None:
                    name = info.name.removeprefix("./").removesuffix(".jpg")
                    found[name] = hashlib.sha256(content.read()).hexdigest()
    return found


def _rows(found: dict[str, dict[str, Any]], images: int) -> list[list[str]]:
    ceiling = found[CEILING]["median"] if CEILING in found else None
    return [
        [
            name,
            f"{figures['median']:.3f}",
            f"{figures['min']:.3f}..{figures['max']:.3f}",
            f"{figures['work']:.3f}",
            f"{images / figures['median']:,.0f}",
            f"{ceiling / figures['median']:.2f}" if ceiling else "",
        ]
        for name, figures in found.items()
    ]


def _busy(others: Others) -> str:
    return "load of other processes unknown" if others.share is None else f"other processes took {others.share:.0%}"


if __name__ == "__main__":
    main()
