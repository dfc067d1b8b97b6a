"""Iterables of finished batches as a source for `DeviceLoader`, such as a torch DataLoader, a generator or a list."""

import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import torch

from mps_shards.batching.batch_source import Allocate
from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.tree_batch import PulledBatch, TreeBatch
from mps_shards.errors import ConfigError
from mps_shards.metrics import SkipReport, StageTimes
from mps_shards.storage.folder import Traffic

__all__ = ["WrappedBatches"]


class WrappedBatches:
    """An iterable of finished batches, with the methods of a data set that `DeviceLoader` needs.

    Args:
        batches: iterable of trees of tensors: tuples, lists, dicts, named tuples.
        device: torch's name of the kind of device that the batches go to: mps, cuda, cpu.
        to_float: deliver uint8 images [batch, channels, height, width] as float32 0..1, as ToTensor does.

    Attributes:
        remarks: properties of batches that slow down their transfer to a device, each with a remedy.
    """

    def __init__(self, batches: Iterable[Any], *, device: str, to_float: bool):
        self.batches, self.device, self.to_float = batches, device, to_float
        self.remarks: list[str] = []
        self._one_pass_begun = False
        self.moves = 0  # number of calls of set_epoch and load_state_dict, which invalidate earlier states

    def iteration(self) -> "WrappedIteration":
        """Return a new iteration over the iterable."""
        return WrappedIteration(self)

    def apply_stages(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Return the batches unchanged."""
        return batches

    def started(self) -> Iterator[Any]:
        """Return a new iterator over the iterable.

        Raises:
            ConfigError: the iterable can be iterated only once, and has been begun before.
        """
        iterator = iter(self.batches)
        if iterator is self.batches:
            if self._one_pass_begun:
                raise ConfigError(
                    f"this {type(self.batches).__name__} can be iterated only once, and batches that were loaded ahead "
                    "of the training loop are gone: pass an object that can be iterated again, such as a DataLoader"
                )
            self._one_pass_begun = True
        return iterator

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # raises TypeError if it has no length

    @property
    def dataset(self) -> Any:
        """The data set of a torch DataLoader.

        Raises:
            AttributeError: the iterable has no data set.
        """
        dataset = getattr(self.batches, "dataset", None)
        if dataset is None:
            raise AttributeError(f"a {type(self.batches).__name__} has no data set")
        return dataset

    def set_epoch(self, epoch: int) -> None:
        """Call `set_epoch` of the iterable, its data set and its samplers, of those that have this method.

        Raises:
            ConfigError: none of them has this method.
        """
        takers: list[Any] = [self.batches]
        takers += [getattr(self.batches, name, None) for name in ("dataset", "sampler", "batch_sampler")]
        takers = [taker for taker in takers if hasattr(taker, "set_epoch")]
        if not takers:
            raise ConfigError(f"neither this {type(self.batches).__name__} nor its sampler has set_epoch: leave it out")
        self.moves += 1
        for taker in takers:
            taker.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the iterable.

        Raises:
            ConfigError: the iterable has no state.
        """
        return dict(self._stateful().state_dict())

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Pass a state on to the iterable.

        Raises:
            ConfigError: the iterable cannot load a state.
        """
        self._stateful().load_state_dict(state)
        self.moves += 1

    def _stateful(self) -> Any:
        if not self.is_stateful:
            raise ConfigError(
                f"a {type(self.batches).__name__} has no state to save or resume: use torchdata's StatefulDataLoader, "
                "or a ShardDataset"
            )
        return self.batches

    @property
    def is_stateful(self) -> bool:
        """Whether the iterable can save its state and continue from it."""
        return hasattr(self.batches, "state_dict") and hasattr(self.batches, "load_state_dict")

    def close(self) -> None:
        """Do nothing, because no file is open between iterations."""

    def __repr__(self) -> str:
        return repr(self.batches)


class WrappedIteration:
    """One pass over a wrapped iterable, see `mps_shards.batching.batch_source.Iteration`."""

    def __init__(self, source: WrappedBatches):
        self._source = source
        self._state: dict[str, Any] | None = None
        self._moves = source.moves
        self._delivered = False  # until the first batch, the data set may still report the skips of the last epoch

    def begin(self) -> None:
        """Start the iterable in the consumer's thread, because a DataLoader starts its worker processes here."""
        self._iterator: Any = self._source.started()

    def plans(self) -> Generator[PulledBatch, None, None]:
        """Yield the batches of the iterable. Worker threads run this iterator, one at a time."""
        iterator, self._iterator = self._iterator, None  # otherwise the iterator would live as long as this iteration
        number = 0
        try:
            while True:
                try:
                    content = next(iterator)
                except StopIteration:
                    return
                except Exception as error:
                    error.add_note(
                        f"while DeviceLoader took batch {number} of this {type(self._source.batches).__name__}"
                    )
                    raise
                if content is None:
                    raise ConfigError(f"batch {number} of this {type(self._source.batches).__name__} is None")
                plan = PulledBatch(number, content, self._source.state_dict() if self._source.is_stateful else None, [])
                del content  # otherwise this frame would keep the batch until the next one
                yield plan
                number += 1
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    def sample_maker(self, times: StageTimes) -> Any:
        """Return a function that puts the finished batch as the only row of its plan."""
        return lambda batch, first, last: batch.put(0, Sample(batch.plan.content, None, ""))

    def new_batch(self, plan: PulledBatch, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """Return an empty `TreeBatch`, into which the batch will be copied."""
        return TreeBatch(plan, allocate, pixels=pixels, device=self._source.device, to_float=self._source.to_float)

    def deliver(self, plan: PulledBatch, tensors: Any, keys: list[str]) -> Any:
        """Return the batch, whose tensors are on the device. Warns once about each property that slows batches down."""
        for remark in plan.remarks:
            if remark not in self._source.remarks:
                self._source.remarks.append(remark)
                warnings.warn(remark, stacklevel=4)
        self._state, self._moves, self._delivered = plan.state, self._source.moves, True
        return tensors

    def end(self) -> None:
        """Drop the state of this iteration, so that the state of the iterable counts, which is at its end."""
        self._state = None

    def cancel(self) -> None:
        """Do nothing, because an iterable cannot be interrupted; closing waits for its next batch."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the iterable after the last delivered batch, even if later batches have been taken.

        Returns None if the current state of the iterable is valid instead.
        """
        return self._state if self._moves == self._source.moves else None

    def skips(self) -> SkipReport:
        """Return the samples that the data set of a DataLoader, also in its workers, reports as skipped so far."""
        report = getattr(getattr(self._source.batches, "dataset", None), "skipped", None) if self._delivered else None
        return report if isinstance(report, SkipReport) else SkipReport()

    def traffic(self) -> Traffic:
        """Return empty counts, because the iterable does not report its requests."""
        return Traffic()
