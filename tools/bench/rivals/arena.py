"""Trials of all contestants in turn, round by round, and tables of their medians and ratios to ours."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tools.bench.rivals.pictures import prepared, warmed
from tools.bench.rivals.report import ROOT, Lines, Others, spread, table
from tools.bench.rivals.roster import ROSTER, Contestant, NotInstalled, python_for
from tools.bench.rivals.workloads import WORKLOADS, Task

__all__ = ["Arena", "Result", "progress", "results_table", "verdicts"]

_LIMIT_S = 600
_DISTURBED = 0.1  # share of the machine that other processes may take; the system itself takes about half of that
_FIGURES = ("first_batch_s", "cpu_ms", "rss_mb", "pss_mb")  # each trial gives one value of each


@dataclass(slots=True)
class Result:
    """All trials of a contestant on a workload.

    Attributes:
        undisturbed: rates of trials during which other processes took little of the machine.
        disturbed: rates of all other trials; they count only if no trial was undisturbed.
        failure: reason if the contestant could not be measured.
    """

    contestant: str
    workload: str
    undisturbed: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)
    first_batch_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    pss_mb: list[float] = field(default_factory=list)
    mean_off: float | None = None
    max_off: float | None = None
    failure: str | None = None

    @property
    def rates(self) -> list[float]:
        """Images per second of the trials that count."""
        return self.undisturbed or self.disturbed

    @property
    def rate(self) -> float:
        """Median of the images per second; 0 if the contestant failed."""
        return spread(self.rates)["median"] if self.rates else 0.0

    def summary(self) -> dict[str, Any]:
        """Return the result as a JSON line of the results file."""
        figures = {name: spread(values) for name in ("rates", *_FIGURES) if (values := getattr(self, name))}
        return {
            "result": self.contestant,
            "workload": self.workload,
            "undisturbed": len(self.undisturbed),
            "disturbed": len(self.disturbed),
            **figures,
            "mean_off": self.mean_off,
            "max_off": self.max_off,
            "failure": self.failure,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Settings of a measurement, and the function that runs it.

    Attributes:
        data: folder of the photographs.
        environments: folder of the rivals' virtual environments.
        workers: number of threads or processes of each contestant.
        rounds: number of trials of each contestant.
        epochs: number of timed epochs per trial.
        images: number of images; by default the workload's own number.
        start: how rivals start their processes.
        say: called with a line of text about each trial.
    """

    data: Path
    environments: Path
    workers: int = 2
    rounds: int = 3
    epochs: int = 2
    images: int | None = None
    start: Literal["fork", "spawn"] = "fork"
    say: Callable[[str], None] = print

    def run(self, workloads: Sequence[str], contestants: Sequence[str], lines: Lines) -> list[Result]:
        """Measure every contestant of each workload in turn, round by round, and return the results."""
        results = []
        for name in workloads:
            task = replace(prepared(name, self.data, workers=self.workers, images=self.images), start=self.start)
            warmed(task)
            entered = [Result(each, name) for each in contestants if name in ROSTER[each].workloads]
            for number in range(self.rounds):
                for result in entered if number % 2 == 0 else reversed(entered):  # so that the predecessors change
                    self._trial(result, task, number, lines)
            for result in entered:
                lines.write(result.summary())
            results += entered
        return results

    def _trial(self, result: Result, task: Task, number: int, lines: Lines) -> None:
        if result.failure:
            return
        contestant = ROSTER[result.contestant]
        try:
            python = python_for(contestant.package, self.environments)
            with Others() as others:
                figures = _figures(python, contestant, task, self.epochs)
        except (NotInstalled, TrialFailed) as error:
            result.failure = f"{'not installed' if isinstance(error, NotInstalled) else 'failed'}: {error}"
            self.say(f"  {task.workload} {contestant.title}: {result.failure}")
            return
        lines.write(
            {"trial": result.contestant, "workload": result.workload, "round": number, "others": others.share} | figures
        )

        disturbed = (others.share or 0.0) > _DISTURBED
        (result.disturbed if disturbed else result.undisturbed).extend(figures["images_per_s"])
        for name in _FIGURES:
            if figures.get(name) is not None:
                getattr(result, name).append(figures[name])
        result.mean_off, result.max_off = figures.get("mean_off"), figures.get("max_off")
        rates = ", ".join(f"{rate:,.0f}" for rate in figures["images_per_s"])
        taken = f" (other processes took {others.share:.0%} of the machine)" if disturbed else ""
        self.say(f"  {task.workload} round {number + 1} {contestant.title}: {rates} images/s{taken}")


class TrialFailed(Exception):
    """A contestant failed, or delivered wrong batches."""


def _figures(python: str, contestant: Contestant, task: Task, epochs: int) -> dict[str, Any]:
    command = [python, "-W", "ignore", "-m", f"tools.bench.rivals.{contestant.module}", contestant.name, task.encoded()]
    try:
        done = subprocess.run(
            [*command, "--epochs", str(epochs)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TrialFailed(f"not finished after {_LIMIT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise TrialFailed(last)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def results_table(results: Sequence[Result]) -> str:
    """Return a table per workload, fastest first: rate, spread, ratio, CPU, first batch, memory and pixel errors."""
    return "\n\n".join(
        _one_table(name, [each for each in results if each.workload == name]) for name in _names(results)
    )


def _names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.workload for result in results))


def _one_table(name: str, results: Sequence[Result]) -> str:
    ours = next((result.rate for result in results if ROSTER[result.contestant].role == "ours"), 0.0)
    rows = []
    for result in sorted(results, key=lambda result: -result.rate):
        title = ROSTER[result.contestant].title
        if result.failure:
            rows.append([title, result.failure[:60], *[""] * 7])
            continue
        rates = spread(result.rates)
        mark = "" if result.undisturbed or not result.disturbed else " (disturbed)"
        rows.append(
            [
                f"**{title}**" if ROSTER[result.contestant].role == "ours" else title,
                f"{rates['median']:,.0f}{mark}",
                f"{rates['min']:,.0f}..{rates['max']:,.0f}",
                f"{ours / result.rate:.2f}x" if ours else "",
                _median(result.cpu_ms, ".2f"),
                _median(result.first_batch_s, ".2f"),
                _median(result.rss_mb, ",.0f"),
                _median(result.pss_mb, ",.0f"),
                "" if result.max_off is None else f"{result.mean_off:.2f} / {result.max_off:.0f}",
            ]
        )
    work = WORKLOADS[name]
    titles = [
        "images/s",
        "spread",
        "ours / this",
        "CPU ms/image",
        "first batch, s",
        "RSS, MB",
        "PSS, MB",
        "error, of 255",
    ]
    return f"{name}: {work.title}\n\n" + table(["loader", *titles], rows)


def _median(values: Sequence[float], form: str) -> str:
    return format(spread(values)["median"], form) if values else ""


def verdicts(results: Sequence[Result]) -> list[str]:
    """Return a line per workload: our rate divided by webdataset's best, the best rival's, and the bare loops'."""
    found = []
    for name in _names(results):
        rates = {result.contestant: result.rate for result in results if result.workload == name and result.rate}
        if "ours" not in rates:
            continue
        rivals = {each: rate for each, rate in rates.items() if ROSTER[each].role == "rival"}
        said = []
        own = [rate for each, rate in rivals.items() if each.startswith("webdataset")]
        if own:
            said.append(f"{rates['ours'] / max(own):.2f}x webdataset's best")
        if rivals:
            best = max(rivals, key=lambda each: rivals[each])
            said.append(f"{rates['ours'] / rivals[best]:.2f}x the best rival ({ROSTER[best].title})")
        for ceiling in ("decode", "work"):
            if ceiling in rates:
                said.append(f"{rates['ours'] / rates[ceiling]:.2f} of the {ROSTER[ceiling].title}")
        found.append(f"{name}: {'; '.join(said)}")
    return found


def progress(text: str) -> None:
    """Print a line about a trial on stderr, because stdout is for the tables."""
    print(text, file=sys.stderr, flush=True)
