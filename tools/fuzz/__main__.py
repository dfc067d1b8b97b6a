"""Runs the fuzz targets in turn, and prints a line about each: ``python -m tools.fuzz``."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tools.fuzz.roster import TARGETS, target

__all__ = ["Round", "main"]

_INPUT_S = 60  # limit for one input, which takes a few seconds at most even on a busy machine
_MAX_INPUT = 1 << 15  # bytes
_GRACE_S = 300  # additional time for starting and ending a target's process


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Result of fuzzing one target.

    Attributes:
        runs: number of inputs that were checked.
        covered: number of code locations that inputs reached at the beginning and at the end.
        kept: number of inputs in the corpus at the end, each of which reaches a new location.
        peak_mb: peak memory of the process.
        found: files of inputs that show a defect.
    """

    name: str
    seconds: float
    runs: int
    covered: tuple[int, int]
    kept: int
    peak_mb: int
    found: tuple[Path, ...]
    ended_well: bool

    def __str__(self) -> str:
        verdict = "ok" if self.ended_well else "FOUND A DEFECT" if self.found else "FAILED"
        growth = f"{self.covered[0]:,} to {self.covered[1]:,}"
        return (
            f"{self.name:<9} {self.runs:>10,} {self.seconds:>6.0f} s {growth:>16} {self.kept:>7,} "
            f"{self.peak_mb:>6,} MB  {verdict}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz targets, and return the exit code: 1 if a defect was found."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=13.0, help="total time (default: 13, one minute per target)")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="folder for inputs to keep, and for logs")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="check these inputs of one target once")
    given = parser.parse_args(arguments)
    names = given.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    if given.again:
        if len(names) != 1:
            parser.error("name the one target that the files are for")
        for path in given.again:
            target(names[0]).check(path.read_bytes())
        return 0
    if find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install '.[fuzz]' (Linux; the tests check some inputs anywhere)")
    print(f"{'target':<9} {'inputs':>10} {'time':>8} {'coverage':>16} {'kept':>7} {'memory':>9}", flush=True)
    rounds = []
    for name in names:
        rounds.append(fuzz(name, seconds=given.minutes * 60 / len(names), out=given.out / name))
        print(rounds[-1], flush=True)
        for path in rounds[-1].found:
            print(f"          again: python -m tools.fuzz {name} --again {path}", flush=True)
        if not rounds[-1].ended_well:
            print(f"          log: {given.out / name / 'log.txt'}", flush=True)
    print(f"{sum(one.runs for one in rounds):,} inputs in {sum(one.seconds for one in rounds) / 60:.1f} minutes")
    return 0 if all(one.ended_well for one in rounds) else 1


def fuzz(name: str, *, seconds: float, out: Path) -> Round:
    """Fuzz one target in a new process, starting from its seeds and from inputs that earlier runs kept in `out`."""
    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": max(1, round(seconds)),
        "timeout": _INPUT_S,
        "max_len": _MAX_INPUT,
        "artifact_prefix": f"{out}/",
        "print_final_stats": 1,
    }
    command = [sys.executable, "-m", "tools.fuzz.one", name, str(corpus)]
    command += [f"-{key}={value}" for key, value in options.items()]
    known = _artifacts(out)
    began = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch, open(out / "log.txt", "wb") as log:
        environment = {**os.environ, "TMPDIR": scratch}  # because libFuzzer exits without removing temporary files
        code = subprocess.call(command, stderr=log, stdout=log, timeout=seconds + _GRACE_S, env=environment)
    report = (out / "log.txt").read_text(errors="replace")
    covered = [int(count) for count in re.findall(r"cov: (\d+)", report)] or [0]
    return Round(
        name=name,
        seconds=time.monotonic() - began,
        runs=_last(r"number_of_executed_units: (\d+)", report) or _last(r"^#(\d+)", report),
        covered=(covered[0], covered[-1]),
        kept=_last(r"corp: (\d+)", report),
        peak_mb=_last(r"peak_rss_mb: *(\d+)", report),
        found=tuple(sorted(_artifacts(out) - known)),
        ended_well=code == 0,
    )


def _artifacts(out: Path) -> set[Path]:
    kinds = ("crash", "timeout", "oom", "leak")
    return {path for path in out.iterdir() if path.name.partition("-")[0] in kinds}


def _last(pattern: str, report: str) -> int:
    return int((re.findall(pattern, report, re.MULTILINE) or ["0"])[-1])


if __name__ == "__main__":
    sys.exit(main())
