"""How long packing a folder takes, start-up included, beside copying it and beside other ways to make tars of it.

python tools/bench_pack.py                        1,000 photographs of 110 KB, warm cache
python tools/bench_pack.py --source ./imgs        class folders of yours

Every contestant is a process of its own, begun once a round, with nothing of earlier rounds left to be written. Only
`mps-shards pack` and "cp -r and sync" wait until their output is on the disk. Its content is compared with the source.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, too

from tools.photos import make_imagenet_like
from tools.rivals.report import Lines, Others, headline, machine, spread, table

__all__ = ["CONTESTANTS", "Contestant", "main"]

_TARFILE = """
import sys, tarfile
from pathlib import Path
source, out = map(Path, sys.argv[1:])
out.mkdir()
with tarfile.open(out / "shard-000000.tar", "w") as tar:
    for image in sorted(source.rglob("*.jpg")):
        tar.add(image, str(image.relative_to(source)))
"""

_SHARD_WRITER = """
import sys
from pathlib import Path
from webdataset import ShardWriter
source, out = map(Path, sys.argv[1:])
out.mkdir()
classes = sorted(folder.name for folder in source.iterdir())
with ShardWriter(str(out / "shard-%06d.tar"), maxsize=256e6, maxcount=10**9, verbose=0) as writer:
    for image in sorted(source.rglob("*.jpg")):
        key = str(image.relative_to(source).with_suffix(""))
        writer.write({"__key__": key, "jpg": image.read_bytes(), "cls": classes.index(image.parent.name)})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to put a folder elsewhere.

    Attributes:
        command: source, destination -> what to run.
        writes: "files" as they are, or "tars" of them.
    """

    command: Callable[[str, str], list[str]]
    writes: str


def _python(script: str) -> Callable[[str, str], list[str]]:
    return lambda source, out: [sys.executable, "-c", script, source, out]


def _shell(script: str) -> Callable[[str, str], list[str]]:
    return lambda source, out: ["sh", "-ec", script, "sh", source, out]


CONTESTANTS = {
    "cp -r": Contestant(command=lambda source, out: ["cp", "-r", source, out], writes="files"),
    "cp -r and sync": Contestant(command=_shell('cp -r "$1" "$2"; sync -f "$2"'), writes="files"),
    "mps-shards pack": Contestant(
        command=lambda source, out: [str(Path(sys.executable).with_name("mps-shards")), "pack", source, out],
        writes="tars",
    ),
    "tar cf": Contestant(command=_shell('mkdir "$2"; tar cf "$2/shard-000000.tar" -C "$1" .'), writes="tars"),
    "Python tarfile": Contestant(command=_python(_TARFILE), writes="tars"),
    "webdataset ShardWriter": Contestant(command=_python(_SHARD_WRITER), writes="tars"),
}
CEILING = "cp -r"


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Measure, print the table, leave JSON lines; seconds by contestant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="class folders of JPEGs; photographs are made by default")
    parser.add_argument("--images", type=int, default=1000, help="to make (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="default: %(default)s")
    given = parser.parse_args(arguments)
    about = machine()
    source = given.source or _photographs(given.out / "data" / f"photos-{given.images}", given.images)
    held = _digests(source)  # warms the cache, too
    seconds: dict[str, list[float]] = {name: [] for name in given.contestants}
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out) as place, Others() as others:
        for _ in range(given.rounds):
            for name in given.contestants:
                seconds[name].append(_timed(CONTESTANTS[name], source, Path(place, "out"), held))
    found = {name: {**spread(times), "others": others.share} for name, times in seconds.items()}
    with Lines(given.out / "bench_pack.jsonl", rounds=given.rounds, images=len(held)) as lines:
        for name, figures in found.items():
            lines.write({"contestant": name, "seconds": seconds[name], **figures})
    total = sum(path.stat().st_size for path in source.rglob("*.jpg"))
    print(headline(about))
    print(f"{len(held):,} images, {total / 1e6:,.1f} MB; {given.rounds} rounds, {_busy(others)}\n")
    print(table(["", "seconds", "spread", "images/s", "times cp -r"], _rows(found, len(held))))
    return found


def _photographs(folder: Path, count: int) -> Path:
    if not folder.exists():
        made = folder.with_name(folder.name + ".part")
        shutil.rmtree(made, ignore_errors=True)
        make_imagenet_like(made, count=count)
        made.rename(folder)
    return folder


def _timed(contestant: Contestant, source: Path, out: Path, held: dict[str, bytes]) -> float:
    """Seconds of one run, whose output is checked, then removed."""
    os.sync()  # what earlier ones left to be written is not this one's
    command = contestant.command(str(source.resolve()), str(out.resolve()))
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    written = _digests(out) if contestant.writes == "files" else _digests_in_tars(out)
    if written != held:
        raise RuntimeError(f"{' '.join(command)} wrote {len(written)} images, {len(held)} others were to be written")
    shutil.rmtree(out)
    return seconds


def _digests(folder: Path) -> dict[str, bytes]:
    """Of each image, by its path without extension."""
    return {
        str(path.relative_to(folder).with_suffix("")): hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*.jpg")
    }


def _digests_in_tars(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                content = tar.extractfile(info) if info.name.endswith(".jpg") else None
                if content is not None:
                    name = info.name.removeprefix("./").removesuffix(".jpg")
                    found[name] = hashlib.sha256(content.read()).digest()
    return found


def _rows(found: dict[str, dict[str, Any]], images: int) -> list[list[str]]:
    ceiling = found[CEILING]["median"] if CEILING in found else None
    return [
        [
            name,
            f"{figures['median']:.3f}",
            f"{figures['min']:.3f}..{figures['max']:.3f}",
            f"{images / figures['median']:,.0f}",
            f"{figures['median'] / ceiling:.1f}" if ceiling else "",
        ]
        for name, figures in found.items()
    ]


def _busy(others: Others) -> str:
    return "others' share of the machine unknown" if others.share is None else f"others took {others.share:.0%} of it"


if __name__ == "__main__":
    main()
