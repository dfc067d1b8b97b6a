"""Iterables of batches as a source for `DeviceLoader`: a torch DataLoader, a generator, a list."""

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
    """A `BatchSource` over an iterable of finished batches.

    Args:
        batches: iterable of trees of tensors: tuples, lists, dicts, named tuples.
        device: torch's name of the kind of device that the batches go to: mps, cuda, cpu.
        to_float: deliver uint8 images [batch, channels, height, width] as ToTensor does.

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
        """Return an iterator over the iterable.

        Raises:
            ConfigError: the iterable is an iterator, which can be iterated only once, and was begun before.
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
        """Call `set_epoch` of the iterable, its data set or its sampler, whichever has it.

        Raises:
            ConfigError: none of the three has `set_epoch`.
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
        """Do nothing: no file is open between iterations."""

    def __repr__(self) -> str:
        return repr(self.batches)


class WrappedIteration:
    """One pass over a wrapped iterable, see `mps_shards.batching.batch_source.Iteration`."""

    def __init__(self, source: WrappedBatches):
        self._source = source
        self._state: dict[str, Any] | None = None
        self._moves = source.moves
        self._delivered = False  # before that, the account may be that of the epoch before

    def begin(self) -> None:
        """Start the iterable, in the consumer's thread: a DataLoader starts its worker processes."""
        self._iterator: Any = self._source.started()

    def plans(self) -> Generator[PulledBatch, None, None]:
        """Take the batches from the iterable one after the other, in worker threads."""
        iterator, self._iterator = self._iterator, None  # else the iterator would live as long as this iteration
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
                del content  # else this frame would keep the batch until the next one
                yield plan
                number += 1
        finally:
            if isinstance(iterator, Generator):
                iterator.close()

    def sample_maker(self, times: StageTimes) -> Any:
        """Return a function that yields the batch as one row, since the batch is finished already."""
        return lambda batch, first, last: iter([Sample(batch.plan.content, None, "")])

    def new_batch(self, plan: PulledBatch, allocate: Allocate, pixels: torch.dtype) -> HostBatch:
        """Return a `TreeBatch` that will hold the batch in its host buffer."""
        return TreeBatch(plan, allocate, pixels=pixels, device=self._source.device, to_float=self._source.to_float)

    def deliver(self, plan: PulledBatch, tensors: Any, keys: list[str]) -> Any:
        """Return the batch with its tensors on the device. Warns about slow batches, once for each remark."""
        for remark in plan.remarks:
            if remark not in self._source.remarks:
                self._source.remarks.append(remark)
                warnings.warn(remark, stacklevel=4)
        self._state, self._moves, self._delivered = plan.state, self._source.moves, True
        return tensors

    def end(self) -> None:
        """Set the state to that after the end of the iterable."""
        self._state = None

    def cancel(self) -> None:
        """Do nothing: an iterable cannot be interrupted, so its next batch is waited for."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the iterable after the last delivered batch, although later batches were taken."""
        return self._state if self._moves == self._source.moves else None

    def skips(self) -> SkipReport:
        """What the data set of a DataLoader skipped so far, also in its workers, if it keeps account of that."""
        report = getattr(getattr(self._source.batches, "dataset", None), "skipped", None) if self._delivered else None
        return report if isinstance(report, SkipReport) else SkipReport()

    def traffic(self) -> Traffic:
        """Return empty counts: the iterable does not report its requests."""
        return Traffic()
