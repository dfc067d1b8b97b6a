"""What becomes of bad samples: the caller's policy, its budget, and the report of what was left out.

`SkipRules` are constant. A `BadSamples` is shared by all the threads of an iteration; only bad samples cost its lock.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from mps_shards.errors import ConfigError, DataError, ShardsError
from mps_shards.metrics import Skip, SkipReport
from mps_shards.sampling.rank import Place
from mps_shards.storage.append_log import append_line

__all__ = ["BadSamples", "Policy", "SkipRules"]

Policy = Literal["raise", "skip"] | Callable[[DataError], bool]

_KEPT = 100  # records in memory, and warnings logged; the count and the log file go on
_FIRST_LOOK = (
    1000  # where an epoch's samples are unknown, a share is taken of no fewer: one bad first sample is no half
)

_log = logging.getLogger("mps_shards")


class SkipRules:
    """Which bad samples may be left out, and where that is written down.

    Args:
        policy: "raise", "skip", or a callable that is given the error and returns True to leave the sample out. It is
            called by whichever thread met the sample, several at once.
        max_bad: how many may be left out before that is an error: a float is a share of the epoch's samples on this
            rank, 0.0 to 1.0; an int is a count. None: no bound.
        log: a file that gets a line of JSON for each; None for none.

    Raises:
        ConfigError: one of them cannot work.
    """

    def __init__(self, policy: Policy, *, max_bad: float | int | None, log: str | os.PathLike[str] | None):
        if policy not in ("raise", "skip") and not callable(policy):
            raise ConfigError(f"on_bad_sample must be 'raise', 'skip' or a callable, not {policy!r}")
        fits = isinstance(max_bad, float) and 0 <= max_bad <= 1
        if not (max_bad is None or fits or (type(max_bad) is int and max_bad >= 0)):
            raise ConfigError(f"max_bad must be a share from 0.0 to 1.0, a whole number, or None, not {max_bad!r}")
        self.policy, self.max_bad = policy, max_bad
        self.log = None if log is None else Path(log).absolute()
        if self.log is not None and not self.log.parent.is_dir():
            raise ConfigError(f"bad_sample_log: {self.log.parent} is no directory")


class BadSamples:
    """The bad samples of one iteration. Its methods may be called from any thread: one lock guards counts and records.

    Args:
        place: whose share is read. A DataLoader's worker keeps an account of its own.
        samples: of this place in a whole epoch; None where that is not known before its end.
    """

    def __init__(self, rules: SkipRules, *, place: Place, epoch: int, samples: int | None):
        self._rules, self._place, self._epoch, self._samples = rules, place, epoch, samples
        self._lock = threading.Lock()
        self._count = 0
        self._shards_lost = 0.0  # as a share of all shards
        self._first: list[Skip] = []
        self.seen = 0  # samples handed out to be made; written by the one thread that pulls steps

    def leave_out(
        self,
        error: ShardsError,
        *,
        shard: str,
        key: str | None = None,
        position: int | None = None,
        share: float = 0.0,
    ) -> bool:
        """Whether to go on without a sample; False: raise the error.

        Args:
            share: where all the rest of a shard is left out: what that shard is of all, 0..1. Nobody knows how many
                samples that is: it counts as one, and as the whole shard where `max_bad` is a share.

        Raises:
            DataError: too many have been left out.
            StorageError: the log file cannot be written.
        """
        policy = self._rules.policy
        if policy == "raise" or not isinstance(error, DataError):  # a broken disk is no broken sample
            return False
        if policy != "skip" and not policy(error):
            return False
        self._record(error, Skip(key=key, shard=shard, position=position, reason=str(error)), share)
        return True

    def report(self) -> SkipReport:
        """What was left out so far."""
        with self._lock:
            return SkipReport(self._count, tuple(self._first))

    def finish(self) -> None:
        """At the end of an epoch: a line in the log if anything was left out, and the budget's last word.

        Raises:
            DataError: too many have been left out of an epoch whose length was not known.
        """
        with self._lock:
            if self._count:
                place = f"rank {self._place.rank} of {self._place.world}"
                if self._place.workers > 1:
                    place += f", worker {self._place.worker} of {self._place.workers}"
                _log.warning("epoch %d, %s: %s; the first was %s", self._epoch, place, self._sum(), self._first[0])
                self._check_budget(self._samples or self.seen)

    def _record(self, error: DataError, skip: Skip, share: float) -> None:
        with self._lock:
            self._count += 1
            self._shards_lost += share
            kept = len(self._first) < _KEPT
            if kept:
                self._first.append(skip)
            if self._rules.log is not None:
                append_line(self._rules.log, json.dumps(self._line(skip)))
            if kept:
                # text alone: a handler that keeps records would keep the error's frames too, and the open shards
                _log.warning("skipped %s", skip)
                if len(self._first) == _KEPT:
                    _log.warning("skipped %d: more of this epoch are counted without a line each", _KEPT)
            try:
                self._check_budget(self._samples or max(self.seen, _FIRST_LOOK))
            except DataError as too_many:
                raise too_many from error

    def _line(self, skip: Skip) -> dict[str, Any]:
        place = self._place
        return {"epoch": self._epoch, **skip._asdict(), "rank": place.rank, "worker": place.worker}

    def _check_budget(self, of: int) -> None:
        most = self._rules.max_bad
        if most is None or (self._count <= most if isinstance(most, int) else self._share(of) <= most):
            return
        raise DataError(
            f"{self._sum()}, more than max_bad={most} allows; the first was {self._first[0]}; "
            "repair the set, or allow more"
        )

    def _share(self, of: int) -> float:
        return self._count / max(of, 1) + self._shards_lost

    def _sum(self) -> str:
        lost = f" (parts of {self._shards_lost:.0%} of the shards among them)" if self._shards_lost else ""
        of = f"{self._samples} samples" if self._samples is not None else f"{self.seen} samples so far"
        return f"skipped {self._count} of {of}{lost}"
