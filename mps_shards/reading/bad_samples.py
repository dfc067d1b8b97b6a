"""Handling of bad samples: the rules, and the account of an iteration.

`SkipRules` are constant. All threads of an iteration share a `BadSamples`, whose lock is taken only for bad samples.
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

_KEPT = 100  # limit for skipped samples in memory and in warnings; the count and the log file have no limit
# If the number of samples of an epoch is unknown, a share refers to at least this many samples. Otherwise, if the first
# sample is bad, the share would be 1.
_FEWEST = 1000

_log = logging.getLogger("mps_shards")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRules:
    """Rules for skipping bad samples: the policy, a limit for their number, and a log file.

        rules = SkipRules(max_bad=20, log="bad.jsonl")
        ShardDataset(shards, batch_size=64, on_bad_sample=rules)

    Attributes:
        policy: "raise", "skip", or a callable that gets the error and returns True to skip the sample, like
            webdataset's handlers. Several threads may call it at the same time.
        max_bad: number of samples that may be skipped before an error is raised: a float is a share of the epoch's
            samples on this rank, 0.0 to 1.0; an int is a count; None sets no limit. Each DataLoader worker counts
            separately.
        log: file to which a line of JSON is appended for each skipped sample. All ranks and workers may share the file.

    Raises:
        ConfigError: an option has an invalid value, or the folder of the log does not exist.
    """

    policy: Policy = "skip"
    max_bad: float | int | None = 0.1  # far more than in real sets, and far less than what would spoil a training
    log: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.policy not in ("raise", "skip") and not callable(self.policy):
            raise ConfigError(
                f"on_bad_sample must be 'raise', 'skip', a function of the error, or SkipRules(…), not {self.policy!r}"
            )
        most = self.max_bad
        fits = isinstance(most, float) and 0 <= most <= 1
        if not (most is None or fits or (type(most) is int and most >= 0)):
            raise ConfigError(
                f"max_bad must be a float from 0.0 to 1.0 (a share), a whole number (a count), or None, not {most!r}"
            )
        if self.log is not None:
            log = Path(self.log).absolute()
            if not log.parent.is_dir():
                raise ConfigError(f"the log of bad samples cannot be written: {log.parent} is not a directory")
            object.__setattr__(self, "log", log)

    @classmethod
    def of(cls, chosen: "Policy | SkipRules") -> "SkipRules":
        """Return the rules for the argument ``on_bad_sample=`` of a data set."""
        return chosen if isinstance(chosen, SkipRules) else cls(policy=chosen)


class BadSamples:
    """Account of the bad samples of one iteration. All methods may be called from any thread.

    Args:
        rules: rules for skipping bad samples.
        share: share of the samples that is read; each DataLoader worker has a separate account.
        epoch: number of the epoch.
        samples: number of samples of this share in an epoch; None if it is not known before the end.

    Attributes:
        tell: function that is called after each skip, by one thread at a time, with the number of skipped samples, and
            with the skipped sample if it is the first one, or otherwise None.
        seen: number of samples that were planned so far.
    """

    def __init__(self, rules: SkipRules, *, share: Share, epoch: int, samples: int | None):
        self._rules, self._share, self._epoch, self._samples = rules, share, epoch, samples
        self._lock = threading.Lock()
        self._count = 0
        self._shards_lost = 0.0  # number of damaged shards, as a share of all shards
        self._first: list[Skip] = []
        self.tell: Callable[[int, Skip | None], None] | None = None
        self.seen = 0  # written only by the thread that plans batches

    def leave_out(
        self,
        error: ShardsError,
        *,
        shard: str,
        key: str | None = None,
        position: int | None = None,
        share: float = 0.0,
    ) -> bool:
        """Return whether to skip a bad sample and continue; if not, the caller raises the error.

        Args:
            error: error of the sample.
            shard: name of the shard that holds it.
            key: key of the sample, if it is known.
            position: position of the sample; None if the rest of a shard is skipped.
            share: share of the shard in all shards, 0..1, if the rest of the shard is skipped. How many samples it
                holds is unknown, so it counts as one sample, or as the complete shard if `max_bad` is a share.

        Raises:
            DataError: too many samples have been skipped.
            StorageError: the log file cannot be written.
        """
        policy = self._rules.policy
        if policy == "raise" or not isinstance(error, DataError):  # a broken disk is not a broken sample
            return False
        if policy != "skip" and not policy(error):
            return False
        self._record(error, Skip(key=key, shard=shard, position=position, reason=str(error)), share)
        return True

    def report(self) -> SkipReport:
        """Return the samples skipped so far. No lock is taken, because a forked child could find it locked for ever."""
        return SkipReport(self._count, tuple(self._first))

    def finish(self) -> None:
        """Log the number of skipped samples, if there are any, and check the limit for the last time.

        Raises:
            DataError: too many samples were skipped in an epoch whose length was unknown before its end.
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
                # the error is not passed: a handler that keeps records would also keep its frames and open shards
                _log.warning("skipped %s", skip)
                if len(self._first) == _KEPT:
                    _log.warning("skipped %d samples: further ones in this epoch are counted, but not logged", _KEPT)
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
                "repair the set, or raise max_bad"
            )

    def _sum(self) -> str:
        lost = f", including parts of {self._shards_lost:.0%} of the shards" if self._shards_lost else ""
        samples = f"{self._samples} samples" if self._samples is not None else f"{self.seen} samples so far"
        return f"skipped {self._count} of {samples}{lost}"
