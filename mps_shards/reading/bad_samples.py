"""Handling of bad samples: the rules, the account of one iteration, and the report of skipped samples.

`SkipRules` are constant. All threads of an iteration share a `BadSamples`; only bad samples take its lock.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mps_shards.errors import ConfigError, DataError, ShardsError
from mps_shards.metrics import Skip, SkipReport
from mps_shards.sampling.rank import Share
from mps_shards.storage.append_log import append_line

__all__ = ["BadSamples", "Policy", "SkipRules"]

Policy: TypeAlias = Literal["raise", "skip"] | Callable[[DataError], bool]

_KEPT = 100  # limit for records in memory and logged warnings; the count and the log file have no limit
# If the number of an epoch's samples is unknown, a share refers to at least this many samples: otherwise a bad first
# sample would be a share of 1.
_FEWEST = 1000

_log = logging.getLogger("mps_shards")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRules:
    """Rules for skipping bad samples: the policy, a limit for their number, and a log file.

        ShardDataset(shards, batch_size=64, on_bad_sample=SkipRules(max_bad=20, log="bad.jsonl"))

    Attributes:
        policy: "raise", "skip", or a callable that gets the error and returns True to skip the sample, like
            webdataset's handlers. Several threads may call it at once.
        max_bad: Number of samples that may be skipped before an error is raised: a float is a share of the epoch's
            samples on this rank, 0.0 to 1.0; an int is a count; None is no limit. Each DataLoader worker counts alone.
        log: File that gets a line of JSON for each skipped sample. All ranks and workers may share the file.

    Raises:
        ConfigError: One of the values cannot work.
    """

    policy: Policy = "skip"
    max_bad: float | int | None = 0.1  # far above the damage of real sets, far below what training would survive
    log: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.policy not in ("raise", "skip") and not callable(self.policy):
            raise ConfigError(
                f"on_bad_sample must be 'raise', 'skip', a callable that is given the error, or SkipRules(…), "
                f"not {self.policy!r}"
            )
        most = self.max_bad
        fits = isinstance(most, float) and 0 <= most <= 1
        if not (most is None or fits or (type(most) is int and most >= 0)):
            raise ConfigError(f"max_bad must be a share from 0.0 to 1.0, a whole number, or None, not {most!r}")
        if self.log is not None:
            log = Path(self.log).absolute()
            if not log.parent.is_dir():
                raise ConfigError(f"the log of bad samples cannot be written: {log.parent} is not a directory")
            object.__setattr__(self, "log", log)

    @classmethod
    def of(cls, chosen: "Policy | SkipRules") -> "SkipRules":
        """Return the rules for a value of `on_bad_sample`."""
        return chosen if isinstance(chosen, SkipRules) else cls(policy=chosen)


class BadSamples:
    """The bad samples of one iteration. All methods may be called from any thread.

    Args:
        share: Share of the samples that is read. Each DataLoader worker has its own account.
        samples: Number of samples of this share in an epoch; None if it is not known before the end.

    Attributes:
        tell: Called with the count after each skip, and with the first one; one thread at a time.
    """

    def __init__(self, rules: SkipRules, *, share: Share, epoch: int, samples: int | None):
        self._rules, self._share, self._epoch, self._samples = rules, share, epoch, samples
        self._lock = threading.Lock()
        self._count = 0
        self._shards_lost = 0.0  # share of all shards
        self._first: list[Skip] = []
        self.tell: Callable[[int, Skip | None], None] | None = None
        self.seen = 0  # samples that were planned; written by the one thread that pulls batches

    def leave_out(
        self,
        error: ShardsError,
        *,
        shard: str,
        key: str | None = None,
        position: int | None = None,
        share: float = 0.0,
    ) -> bool:
        """Decide whether to continue without a sample. If False is returned, the caller raises the error.

        Args:
            share: If the rest of a shard is skipped, the shard's share of all shards, 0..1. The number of samples is
                unknown: the rest counts as one sample, or as the whole shard if `max_bad` is a share.

        Raises:
            DataError: Too many samples have been skipped.
            StorageError: The log file cannot be written.
        """
        policy = self._rules.policy
        if policy == "raise" or not isinstance(error, DataError):  # a broken disk is not a broken sample
            return False
        if policy != "skip" and not policy(error):
            return False
        self._record(error, Skip(key=key, shard=shard, position=position, reason=str(error)), share)
        return True

    def report(self) -> SkipReport:
        """Return the samples skipped so far. Takes no lock, which could be held for ever in a forked child."""
        return SkipReport(self._count, tuple(self._first))

    def finish(self) -> None:
        """Log the number of skipped samples, if there are any, and check the limit for the last time.

        Raises:
            DataError: Too many samples were skipped, in an epoch whose length was not known.
        """
        with self._lock:
            if self._count:
                who = f"rank {self._share.rank} of {self._share.world_size}"
                if self._share.num_workers > 1:
                    who += f", worker {self._share.worker} of {self._share.num_workers}"
                _log.warning("epoch %d, %s: %s; the first was %s", self._epoch, who, self._sum(), self._first[0])
                self._check_budget(self._samples or self.seen)

    def _record(self, error: DataError, skip: Skip, share: float) -> None:
        with self._lock:
            self._count += 1
            self._shards_lost += share
            if self.tell is not None:
                self.tell(self._count, skip if self._count == 1 else None)
            kept = len(self._first) < _KEPT
            if kept:
                self._first.append(skip)
            if self._rules.log is not None:
                append_line(Path(self._rules.log), json.dumps(self._line(skip)))
            if kept:
                # text alone: a handler that keeps records would keep the error's frames too, and the open shards
                _log.warning("skipped %s", skip)
                if len(self._first) == _KEPT:
                    _log.warning("skipped %d samples: more of this epoch are counted without a line each", _KEPT)
            try:
                self._check_budget(self._samples or max(self.seen, _FEWEST))
            except DataError as too_many:
                raise too_many from error

    def _line(self, skip: Skip) -> dict[str, Any]:
        return {"epoch": self._epoch, **skip._asdict(), "rank": self._share.rank, "worker": self._share.worker}

    def _check_budget(self, samples: int) -> None:
        most = self._rules.max_bad
        skipped = self._count if isinstance(most, int) else self._count / max(samples, 1) + self._shards_lost
        if most is not None and skipped > most:
            raise DataError(
                f"{self._sum()}, more than max_bad={most} allows; the first was {self._first[0]}; "
                "repair the set, or allow more"
            )

    def _sum(self) -> str:
        lost = f" (parts of {self._shards_lost:.0%} of the shards among them)" if self._shards_lost else ""
        samples = f"{self._samples} samples" if self._samples is not None else f"{self.seen} samples so far"
        return f"skipped {self._count} of {samples}{lost}"
