"""Options that several benchmarks share, each declared once."""

import argparse
from pathlib import Path

__all__ = ["bench_parser"]

_OUT = Path("bench-out")
_COUNTS = {
    "images": "number of images",
    "workers": "threads or processes",
    "rounds": "number of rounds; each round measures every contestant once",
    "epochs": "number of timed epochs per trial",
}


def bench_parser(doc: str | None, *, data: bool = False, **defaults: int) -> argparse.ArgumentParser:
    """Return a parser with ``--out`` and the shared options that the benchmark takes.

    Args:
        doc: docstring of the module, whose first line describes the benchmark.
        data: whether the benchmark takes ``--data``.
        defaults: default values of the counts that the benchmark takes: images, workers, rounds, epochs.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if data:
        parser.add_argument("--data", type=Path, default=_OUT / "data", help="folder of input (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder for the results (default: %(default)s)")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{_COUNTS[name]} (default: %(default)s)")
    return parser
