"""The position of a data set, which decides where the next iteration starts, and the states for resuming."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

from mps_shards.errors import ConfigError, ResumeMismatch
from mps_shards.metrics import SkipReport
from mps_shards.reading.bad_samples import BadSamples
from mps_shards.reading.sample_sources import Request, Source
from mps_shards.reading.worker_skips import WorkerSkips
from mps_shards.sampling.cursor import Cursor, check_resume
from mps_shards.sampling.epoch_progress import Begun, Progress
from mps_shards.sampling.order import Shuffle
from mps_shards.sampling.rank import DataLoaderWorker, Share, dataloader_worker
from mps_shards.sampling.rank_sharding import Deal, Remainder

__all__ = ["ReadPosition", "SampleSequence", "Start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSequence:
    """Everything that decides which samples are in each batch, apart from the epoch and the rank.

    Attributes:
        seed: seed of the order and of the augmentation.
        batch_size: number of samples of a batch on one rank.
        remainder, drop_last: handling of the last samples of an epoch, see `Deal`.
        samples: number of samples of an epoch; None if it is not known.
        fingerprint: values on which the order of the samples depends, by name.
    """

    seed: int
    batch_size: int
    remainder: Remainder
    drop_last: bool
    samples: int | None
    fingerprint: dict[str, Any]

    @classmethod
    def of(
        cls,
        source: Source,
        shuffle: Shuffle | None,
        *,
        seed: int,
        batch_size: int,
        remainder: Remainder,
        drop_last: bool,
    ) -> Self:
        """Return the sequence of the samples of a source."""
        fingerprint = {
            **source.fingerprint,
            "samples": source.samples,
            "seed": seed,
            "shuffle": None if shuffle is None else [shuffle.block, shuffle.lanes, shuffle.window],
            "remainder": remainder,
        }
        return cls(
            seed=seed,
            batch_size=batch_size,
            remainder=remainder,
            drop_last=drop_last,
            samples=source.samples,
            fingerprint=fingerprint,
        )

    def request(self, share: Share, epoch: int, start: int) -> Request:
        """Return the request for the part of an epoch that belongs to a share, from a position on."""
        return Request(
            seed=self.seed,
            epoch=epoch,
            start=start,
            batch_size=self.batch_size,
            share=share,
            remainder=self.remainder,
            drop_last=self.drop_last,
        )

    def deal(self, share: Share, start: int) -> Deal:
        """Return all batches of a rank from a position on, over all its workers."""
        return self.request(replace(share, worker=0, num_workers=1), 0, start).deal(self.samples)

    def cursor(self, epoch: int, position: int, worker: tuple[int, int, int] | None = None) -> Cursor:
        """Return the cursor at a position of an epoch."""
        return Cursor(epoch=epoch, position=position, fingerprint=self.fingerprint, worker=worker)


class Start(NamedTuple):
    """The start of an iteration.

    Attributes:
        sequence: sequence of the samples.
        request: the part of the epoch that the iteration reads.
        number: number of the iteration, see `Progress`.
        worker: number of this DataLoader worker; None in any other process.
    """

    sequence: SampleSequence
    request: Request
    number: int
    worker: int | None

    def cursor(self, position: int, *, batches_ahead: int) -> Cursor:
        """Return the cursor at a position, or for a DataLoader worker at the worker's next batch.

        Args:
            position: position in the epoch.
            batches_ahead: number of batches of other workers that come before this worker's next batch.
        """
        if self.worker is None:
            return self.sequence.cursor(self.request.epoch, position)
        share = self.request.share
        step = self.request.batch_size * share.world_size
        position += batches_ahead * step
        if self.sequence.samples is not None:
            position = min(position, self.sequence.samples)
        return self.sequence.cursor(self.request.epoch, position, (self.worker, share.num_workers, step))

    def first_cursor(self) -> Cursor:
        """Return the cursor before the first batch."""
        return self.cursor(self.request.start, batches_ahead=self.request.share.worker)


class ReadPosition:
    """The position of a data set. Data sets composed from it share the position; a pickled copy has a separate one.

    Args:
        sequence: sequence of the samples.
        progress: epoch and start of the next iteration, shared with DataLoader workers.
        share: rank and world size; None to detect them.
        workers_skip: whether DataLoader workers may skip samples, so that the main process must learn about it.

    Attributes:
        moves: how often the position was set; states of iterations that began before are invalid.
        bad: account of the samples that the last iteration skipped; None before the first iteration.
    """

    def __init__(
        self, sequence: SampleSequence, progress: Progress, share: Share | None, *, workers_skip: bool = False
    ):
        self.sequence, self._progress, self._chosen = sequence, progress, share
        self._worker_skips = WorkerSkips() if workers_skip else None
        self._inherited: Share | None = None  # share of the process that pickled this position
        self._inherited_by = 0
        self._forget()

    def _forget(self) -> None:
        self._live: Cursor | None = None  # cursor after the last batch that the latest iteration delivered
        self._own: Cursor | None = None  # cursor at which this DataLoader worker alone continues
        self.bad: BadSamples | None = None
        self.moves = 0
        self._iterations = 0

    # Iterations

    def new_iteration(self) -> int:
        """Return the number of a new iteration. Until it delivers a batch, the state is its start."""
        self._live = None
        self._iterations += 1
        return self._iterations

    def begin(self) -> Start:
        """Return the epoch, the start position and the share of the iteration that begins now."""
        share, worker = self.share()
        own = self._own
        start = self._start(share, worker, self._progress.begin(worker, epoch=None if own is None else own.epoch))
        self._own = None
        return start

    def moved(self, iteration: int, cursor: Cursor) -> None:
        """Record the cursor of an iteration as the state of the data set, if no later iteration exists."""
        if iteration == self._iterations:
            self._live = cursor

    def delivered(self, start: Start) -> None:
        """Record that the iteration delivered a batch or reached its end, so that the next one reads the next epoch."""
        self._progress.delivered(start.number)

    def share(self) -> tuple[Share, DataLoaderWorker | None]:
        """Return this process's share of the reading, and its identity as a DataLoader worker, if it is one."""
        worker = dataloader_worker()
        # a rank that was spawned with this data set must detect its share, and so must the workers that it forks
        inherited = self._inherited if worker is not None and self._inherited_by == os.getpid() else None
        return (self._chosen or inherited or Share.detect()).of_worker(worker), worker

    def skips(self) -> SkipReport:
        """Return the samples that the current or last iteration skipped so far, also in DataLoader workers."""
        if self._worker_skips is not None and dataloader_worker() is None:
            number = self._progress.latest_in_workers()
            if number is not None:
                return self._worker_skips.report(number)
        return SkipReport() if self.bad is None else self.bad.report()

    def count_skips(self, start: Start, bad: BadSamples) -> None:
        """Make `bad`, the account of the iteration that begins at `start`, the account of the data set."""
        self.bad = bad
        if self._worker_skips is not None and start.worker is not None:
            bad.tell = partial(self._worker_skips.record, start.number, start.worker)
            bad.tell(0, None)

    def __len__(self) -> int:
        """Return the number of batches of an epoch on this rank."""
        return self.sequence.deal(self.share()[0], 0).steps

    # States

    @property
    def epoch(self) -> int:
        """Epoch of the next iteration."""
        return self._progress.upcoming().epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration read this epoch from its start. Does nothing if it reads this epoch anyway."""
        if epoch != self.epoch:
            self._move(epoch, 0)

    def state(self, batches: int | None) -> Cursor:
        """Return the cursor after the last delivered batch.

        Args:
            batches: return the cursor after this number of batches of the running iteration instead.

        Raises:
            ConfigError: DataLoader workers made the batches, so `batches` must be given.
        """
        worker = dataloader_worker()
        if batches is not None:
            running = self._progress.current()
            deal = self.sequence.deal(self.share()[0], running.start)
            return self.sequence.cursor(running.epoch, deal.after(batches - 1) if batches else running.start)
        if worker is None and self._progress.in_workers():
            raise ConfigError(
                "DataLoader workers made the batches, and this process does not know how many of them were used: save "
                "state_dict(batches=n) after n batches, or use DeviceLoader or torchdata's StatefulDataLoader"
            )
        if self._live is not None:
            return self._live
        return self._start(*self.share(), self._progress.upcoming(worker)).first_cursor()

    def load(self, state: Mapping[str, Any], *, strict: bool) -> None:
        """Let the next iteration continue at the cursor in `state`.

        Args:
            state: a state of this data set, or of another one with the same samples.
            strict: raise an error for every difference between the data sets, instead of a warning.

        Raises:
            ResumeMismatch: the state belongs to another sequence, or to another DataLoader worker.
        """
        cursor = Cursor.from_state(state)
        sequence = self.sequence
        differences = check_resume(cursor, sequence.fingerprint, samples=sequence.samples, strict=strict)
        if differences:
            warnings.warn(f"resuming from a state of another sequence: {'; '.join(differences)}", stacklevel=3)
        share, worker = self.share()
        step = sequence.batch_size * share.world_size
        here = None if worker is None else (share.worker, share.num_workers, step)
        if cursor.worker is None and here is None:
            self._move(cursor.epoch, cursor.position)
            return
        if cursor.worker is None:
            cursor = replace(cursor, position=cursor.position + share.worker * step, worker=here)
        elif cursor.worker != here:
            saved = "worker {} of {} with {} samples a step".format(*cursor.worker)
            current = "worker {} of {} with {} samples a step".format(*here) if here else "not a worker"
            raise ResumeMismatch(
                f"this is the state of DataLoader {saved} (over all ranks), but this process is {current}; use the "
                "same num_workers and global batch size, or save dataset.state_dict(batches=n) in the main process"
            )
        # kept in this worker alone, so that epochs which the main process sets later still reach it
        self._live = self._own = cursor
        self.moves += 1

    def _move(self, epoch: int, start: int) -> None:
        self._progress.move(epoch, start)
        self._live = self._own = None
        self.moves += 1

    def _start(self, share: Share, worker: DataLoaderWorker | None, begun: Begun) -> Start:
        number, epoch, start = begun
        own = self._own
        if own is not None:  # from this worker's next batch on, every W-th batch is this worker's
            epoch, start = own.epoch, own.position
            share = replace(share, worker=0)
        request = self.sequence.request(share, epoch, start)
        return Start(self.sequence, request, number, None if worker is None else worker.number)

    def __getstate__(self) -> dict[str, Any]:
        # a spawned DataLoader worker has no process group from which it could detect the rank
        return {
            "sequence": self.sequence,
            "_progress": self._progress,
            "_chosen": self._chosen,
            "_worker_skips": self._worker_skips,
            "_inherited": Share.detect(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _inherited_by=os.getpid())
        self._forget()
