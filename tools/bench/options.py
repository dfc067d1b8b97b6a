"""The options that several benchmarks share, each declared once."""

import argparse
from pathlib import Path

__all__ = ["bench_parser"]

_OUT = Path("bench-out")
_COUNTS = {
    "images": "number of images",
    "workers": "threads or processes",
    "rounds": "how often everything is measured, in turn",
    "epochs": "timed epochs of each trial",
}


def bench_parser(doc: str | None, *, data: bool = False, **defaults: int) -> argparse.ArgumentParser:
    """A parser that takes ``--out``, and those of the shared options that the benchmark has.

    Args:
        doc: documentation of the module, whose first line describes the benchmark.
        data: whether it takes ``--data``.
        defaults: of the counts that it takes: images, workers, rounds, epochs.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    if data:
        parser.add_argument("--data", type=Path, default=_OUT / "data", help="input of the work (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=_OUT, help="folder for the figures (default: %(default)s)")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{_COUNTS[name]} (default: %(default)s)")
    return parser
