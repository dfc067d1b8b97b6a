"""Measure how fast `mps-shards verify` reads a set, beside tools that only compute digests of the same files.

python -m tools.bench.verify                      6,000 samples of 110 KB in shards of 256 MB, warm cache
python -m tools.bench.verify --shards ./imgs-shards

Each contestant is a new process in interleaved rounds, and its start-up counts. `verify` reads one shard at a time.
Apart from the SHA-256, it checks every header, every sample's CRC-32, keys and labels. CPU seconds are the fair
comparison, because `verify` computes digests on a second thread, and OpenSSL is faster than many a sha256sum.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mps_shards import pack
from tools.bench.options import bench_parser
from tools.bench.rivals.report import Lines, Others, headline, machine, spread, table, timed_command
from tools.scripts.photos import make_imagenet_like

__all__ = ["CONTESTANTS", "main"]

PHOTOS = 15  # number of different photographs, one per class

CONTESTANTS: dict[str, Callable[[Path], list[str]]] = {
    "sha256sum -b": lambda folder: ["sha256sum", "-b", *_tars(folder)],
    "openssl dgst -sha256": lambda folder: ["openssl", "dgst", "-sha256", *_tars(folder)],
    "mps-shards verify": lambda folder: [
        str(Path(sys.executable).with_name("mps-shards")),
        "verify",
        "--workers",
        "1",
        str(folder),
    ],
}
RIVAL = "sha256sum -b"


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Measure, print the table, write JSON lines, and return wall and CPU seconds by contestant."""
    parser = bench_parser(__doc__, rounds=7)
    parser.add_argument("--shards", type=Path, help="shard set to read (default: one that is made)")
    parser.add_argument("--samples", type=int, default=6000, help="samples of the set to make (default: %(default)s)")
    given = parser.parse_args(arguments)
    about = machine()
    folder = given.shards or _made(given.out / "data" / f"verify-{given.samples}", given.samples)
    size = sum(Path(tar).stat().st_size for tar in _tars(folder))
    names = [name for name, command in CONTESTANTS.items() if shutil.which(command(folder)[0])]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with Others() as others:
        for _ in range(given.rounds):
            for name in names:
                taken[name].append(timed_command(CONTESTANTS[name](folder)))
    found = {
        name: {"wall": spread([wall for wall, _ in times]), "cpu": spread([cpu for _, cpu in times])}
        for name, times in taken.items()
    }
    with Lines(given.out / "bench_verify.jsonl", rounds=given.rounds, bytes=size, others=others.share) as lines:
        for name, figures in found.items():
            lines.write({"contestant": name, "taken": taken[name], **figures})
    busy = "unknown" if others.share is None else f"{others.share:.0%}"
    print(headline(about))
    print(f"{size / 1e6:,.1f} MB; {given.rounds} rounds; other processes' share of the machine: {busy}\n")
    titles = ["", "MB/s", "MB per CPU second", f"MB/s / {RIVAL}", f"MB per CPU second / {RIVAL}"]
    print(table(titles, _rows(found, size)))
    return found


def _tars(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.tar")))


def _made(folder: Path, samples: int) -> Path:
    """Return a set of repeated photographs; each has its number appended, so that no two files are equal."""
    if not folder.exists():
        source = folder.with_name(f"{folder.name}-files")
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(f"{source}-photos", ignore_errors=True)
        photos = [path.read_bytes() for path in make_imagenet_like(Path(f"{source}-photos"), count=PHOTOS)]
        for number in range(samples):
            path = source / str(number % 10) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photos[number % PHOTOS] + number.to_bytes(4, "big"))
        pack(source, folder)
        shutil.rmtree(source)
        shutil.rmtree(f"{source}-photos")
    return folder


def _rows(found: dict[str, dict[str, Any]], size: int) -> list[list[str]]:
    rival = found.get(RIVAL)

    def ratio_to_rival(figures: dict[str, Any], what: str) -> str:
        return f"{rival[what]['median'] / figures[what]['median']:.2f}" if rival else ""

    return [
        [
            name,
            f"{size / 1e6 / figures['wall']['median']:,.0f}",
            f"{size / 1e6 / figures['cpu']['median']:,.0f}",
            ratio_to_rival(figures, "wall"),
            ratio_to_rival(figures, "cpu"),
        ]
        for name, figures in found.items()
    ]


if __name__ == "__main__":
    main()
