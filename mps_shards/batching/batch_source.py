"""What `DeviceLoader` needs of a source of batches: iterations that plan batches, make samples and keep the cursor.

`ShardDataset` is one such source. The protocols know nothing of shards, so the loader, its threads and the device
engines can be run over any source.
"""

from collections.abc import Callable, Generator, Iterator, Sized
from typing import Any, Protocol, TypeAlias, TypeVar

import torch

from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.storage.folder import Traffic

__all__ = ["Allocate", "BatchSource", "BatchWork", "Iteration", "Plan", "SampleMaker"]

# Which samples a batch is to hold, known before any of them is read. Its length is the number of samples.
Plan = TypeVar("Plan", bound=Sized)
# Bytes -> uint8 host memory of at least that size.
Allocate: TypeAlias = Callable[[int], torch.Tensor]


class SampleMaker(Protocol):
    """Makes samples in one worker thread."""

    def __call__(self, batch: HostBatch, first: int, last: int) -> Iterator[Sample | None]:
        """The samples of rows `first` to `last - 1` of the batch's plan, in order; None for a sample that is skipped.

        The caller puts them into the batch. A maker may write images into `batch.image_rows` itself.
        """
        ...


class BatchWork(Protocol[Plan]):
    """What worker threads need of an iteration. `plans` is pulled by one thread at a time; the rest may overlap."""

    def plans(self) -> Generator[Plan, None, None]:
        """The batches to make, in order."""
        ...

    def sample_maker(self, times: StageTimes) -> SampleMaker:
        """A function that makes samples in one thread.

        Args:
            times: where the seconds of each stage are added.
        """
        ...

    def new_batch(self, plan: Plan, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """An empty batch for the samples of a plan.

        Args:
            allocate: called once, as soon as the size is known.
            pixels: the dtype in which uint8 images are stored, see `HostBatch`.
        """
        ...


class Iteration(BatchWork[Plan], Protocol[Plan]):
    """One pass over a source of batches, and where it stands.

    The consumer's thread calls `begin` at the first batch, then `deliver` for each batch in order, then `end`.
    """

    def begin(self) -> None:
        """Fix which batches come, such as the epoch and the position to start at."""
        ...

    def deliver(self, plan: Plan, tensors: tuple[Any, Any] | None, keys: list[str]) -> Any | None:
        """What the training loop gets for a batch, None for nothing. The cursor moves behind the batch.

        Args:
            tensors: images and targets on the device, None where every sample was skipped.
            keys: of the samples that were not skipped.
        """
        ...

    def end(self) -> None:
        """Move the cursor behind the last batch, and check what was skipped."""
        ...

    def cancel(self) -> None:
        """Wake every thread that waits for data of this iteration. Called from any thread, more than once."""
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """The cursor behind the last batch that this iteration delivered, as plain values.

        None where the state of the source counts instead: before the first batch, and once the source was moved.
        """
        ...

    def skips(self) -> SkipReport:
        """The samples that this iteration skipped so far."""
        ...

    def traffic(self) -> Traffic:
        """What was asked of object stores since `begin`."""
        ...


class BatchSource(Protocol[Plan]):
    """A source of batches that can be iterated any number of times."""

    def iteration(self) -> Iteration[Plan]:
        """A new iteration, which begins with its first batch."""
        ...

    def apply_stages(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches after the stages that users added, such as ``map`` and ``select``."""
        ...

    def __len__(self) -> int:
        """Batches of an epoch. Raises TypeError where that is not known."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be of this epoch, from its start."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The cursor of the next iteration."""
        ...

    def load_state_dict(self, state: Any, *, strict: bool = True) -> None:
        """Let the next iteration go on behind the cursor in `state`."""
        ...

    def close(self) -> None:
        """Close open files. The source can be used again."""
        ...
