"""The contract of an iteration for `DeviceLoader`: it plans batches, makes samples and keeps the cursor.

`ShardDataset` and `WrappedBatches` return such iterations. The protocols know nothing about shards, so that the loader,
its threads and the device engines work with any source of batches.
"""

from collections.abc import Callable, Generator, Sized
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from mps_shards.batching.host_batch import HostBatch
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.storage.folder import Traffic

__all__ = ["Allocate", "BatchWork", "Iteration", "Plan", "SampleMaker"]

# A plan states the samples of a batch before any of them is read. Its length is the number of samples.
Plan = TypeVar("Plan", bound=Sized)
# A function from a number of bytes to uint8 host memory of at least that size.
Allocate: TypeAlias = Callable[[int], torch.Tensor]


class SampleMaker(Protocol):
    """A function that makes samples in one worker thread, and puts them into their batch."""

    def __call__(self, batch: HostBatch, first: int, last: int) -> None:
        """Put the samples of rows `first` to `last - 1` of the batch's plan into the batch, or skip them."""
        ...


class BatchWork(Protocol[Plan]):
    """The methods of an iteration for worker threads. `plans` runs in one thread at a time; other calls may overlap."""

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
            plan: plan of the batch.
            allocate: function that returns host memory; called once, as soon as the size of the batch is known.
            pixels: dtype in which uint8 images are stored, see `HostBatch`.
        """
        ...


class Iteration(BatchWork[Plan], Protocol[Plan]):
    """One pass over a source of batches, with its cursor.

    The consumer's thread calls `begin` before the first batch, then `deliver` for each batch in order, then `end`.
    """

    def begin(self) -> None:
        """Fix the epoch and the position at which this iteration starts."""
        ...

    def deliver(self, plan: Plan, tensors: tuple[Any, Any] | None, keys: list[str]) -> Any | None:
        """Advance the cursor past a batch, and return what the training loop gets; None if it gets nothing.

        Args:
            plan: plan of the batch.
            tensors: images and targets on the device; None if every sample was skipped.
            keys: keys of the samples that were not skipped.
        """
        ...

    def end(self) -> None:
        """Advance the cursor past the last batch, and check the skipped samples."""
        ...

    def cancel(self) -> None:
        """Wake every thread that waits for data of this iteration. May be called from any thread, and repeatedly."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Return the cursor after the last batch that this iteration delivered, as plain values.

        Returns None if the state of the source is valid instead: before the first batch, and after the epoch or the
        state of the source was set.
        """
        ...

    def skips(self) -> SkipReport:
        """Return the samples that this iteration has skipped so far."""
        ...

    def traffic(self) -> Traffic:
        """Return the counts of requests to object stores since `begin`."""
        ...
