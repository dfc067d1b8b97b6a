"""The contract of a source of batches for `DeviceLoader`: iterations plan batches, make samples and keep the cursor.

`ShardDataset` is one such source. The protocols know nothing about shards, so the loader, its threads and the device
engines work with any source.
"""

from collections.abc import Callable, Generator, Iterator, Sized
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.storage.folder import Traffic

__all__ = ["Allocate", "BatchSource", "BatchWork", "Iteration", "Plan", "SampleMaker"]

# The samples of a batch, known before any of them is read. The length of a plan is the number of samples.
Plan = TypeVar("Plan", bound=Sized)
# A function from a number of bytes to uint8 host memory of at least that size.
Allocate: TypeAlias = Callable[[int], torch.Tensor]


class SampleMaker(Protocol):
    """Makes samples in one worker thread."""

    def __call__(self, batch: HostBatch, first: int, last: int) -> Iterator[Sample | None]:
        """Yield the samples of rows `first` to `last - 1` of the batch's plan, in order; None for a skipped sample.

        The caller puts the samples into the batch. A maker may write images into `batch.image_rows` itself.
        """
        ...


class BatchWork(Protocol[Plan]):
    """The part of an iteration for worker threads. `plans` runs in one thread at a time; other calls may overlap."""

    def plans(self) -> Generator[Plan, None, None]:
        """Yield the plans of the batches to make, in order."""
        ...

    def sample_maker(self, times: StageTimes) -> SampleMaker:
        """Return a function that makes samples in one thread.

        Args:
            times: stage times to which the function adds its seconds.
        """
        ...

    def new_batch(self, plan: Plan, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """Return an empty batch for the samples of a plan.

        Args:
            allocate: called once, as soon as the size is known.
            pixels: the dtype in which uint8 images are stored, see `HostBatch`.
        """
        ...


class Iteration(BatchWork[Plan], Protocol[Plan]):
    """One pass over a source of batches, with its cursor.

    The consumer's thread calls `begin` at the first batch, then `deliver` for each batch in order, then `end`.
    """

    def begin(self) -> None:
        """Fix the epoch and the position at which this iteration starts."""
        ...

    def deliver(self, plan: Plan, tensors: tuple[Any, Any] | None, keys: list[str]) -> Any | None:
        """Return what the training loop gets for a batch (None for nothing), and advance the cursor past the batch.

        Args:
            tensors: images and targets on the device; None if every sample was skipped.
            keys: keys of the samples that were not skipped.
        """
        ...

    def end(self) -> None:
        """Advance the cursor past the last batch, and check the skipped samples."""
        ...

    def cancel(self) -> None:
        """Wake every thread that waits for data of this iteration. Called from any thread, more than once."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Return the cursor after the last batch that this iteration delivered, as plain values.

        None if the state of the source is valid instead: before the first batch, and after the source's epoch or state
        was set.
        """
        ...

    def skips(self) -> SkipReport:
        """Return the samples that this iteration has skipped so far."""
        ...

    def traffic(self) -> Traffic:
        """Return the counts of requests to object stores since `begin`."""
        ...


class BatchSource(Protocol[Plan]):
    """A source of batches that can be iterated any number of times."""

    def iteration(self) -> Iteration[Plan]:
        """Return a new iteration. It starts when its first batch is requested."""
        ...

    def apply_stages(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Apply the stages that users added, such as ``map`` and ``select``, to the batches."""
        ...

    def __len__(self) -> int:
        """Return the number of batches of an epoch. Raises TypeError if the number is not known."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration start at the beginning of this epoch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the cursor of the next iteration."""
        ...

    def load_state_dict(self, state: Any, *, strict: bool = True) -> None:
        """Let the next iteration continue at the cursor in `state`."""
        ...

    def close(self) -> None:
        """Close open files. The source can be used again."""
        ...
