"""Copying of finished batches of any structure into host buffers, for the transfer to a device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mps_shards.batching import tree
from mps_shards.batching.host_batch import HostBatch, Sample
from mps_shards.batching.tensor_layout import Conversion
from mps_shards.errors import ConfigError

__all__ = ["PulledBatch", "TreeBatch"]

_ALIGNMENT = 64  # bytes; every tensor in a host buffer begins at a cache line
_WHITE = torch.tensor(255.0)
_CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, RGB, RGBA
# dtypes for which MPS raises TypeError. float16, bfloat16 and unsigned integers work since torch 2.9 and macOS 14.
_LACKED_BY_MPS = (torch.float64, torch.complex128)


@dataclass(slots=True)
class PulledBatch:
    """A batch that was taken from a user's iterable. It counts as one row, so that one worker copies all of it.

    Attributes:
        number: number of the batch in this iteration, from 0.
        content: the batch; None once it has been copied.
        state: state of the iterable after this batch; None if the iterable has no state.
        remarks: properties that slow down the transfer of the batch to a device, each with a remedy.
    """

    number: int
    content: Any
    state: dict[str, Any] | None
    remarks: list[str]

    def __len__(self) -> int:
        return 1


class TreeBatch(HostBatch):
    """The host buffer's copy of a finished batch, which is a tree of tensors and other values.

    Tensors are sent to the device; other values stay unchanged. The values of tensors, their dtypes and the order of
    their dimensions in memory (such as torch.channels_last) arrive unchanged.

    Args:
        plan: the batch.
        allocate: function from bytes to uint8 host memory of at least that size.
        pixels: dtype in which images are stored if `to_float` is set.
        device: torch's name of the kind of device that the batch goes to: mps, cuda, cpu.
        to_float: deliver uint8 images [batch, channels, height, width] as float32 0..1, as ToTensor does.
    """

    def __init__(
        self,
        plan: PulledBatch,
        allocate: Callable[[int], torch.Tensor],
        *,
        pixels: torch.dtype,
        device: str,
        to_float: bool,
    ):
        super().__init__(plan, allocate, pixels=pixels)
        self._pulled, self._device, self._to_float = plan, device, to_float
        self._numbers: list[int] = []  # for each tensor that is sent, its index among all leaves of the batch
        self._permutations: list[list[int]] = []  # for each tensor that is sent, its dimensions in the user's order
        self._likes: list[torch.Tensor | None] = []  # for each tensor that is sent, a tensor of the user's class

    @property
    def is_empty(self) -> bool:
        """Whether the batch has no rows: False, because batches of an iterable are delivered as they are."""
        return False

    def put(self, row: int, sample: Sample) -> None:
        """Copy the batch into the host buffer.

        Raises:
            ConfigError: a value in the batch cannot be sent to this device.
        """
        self._structure = content = sample.image
        values = tree.leaves(content)
        tensors = []
        for number, value in enumerate(values):
            if self._is_sent(number, value):
                self._numbers.append(number)
                tensors.append(value.detach())
                self._likes.append(_class_of(value))
        self.rows = next((len(tensor) for tensor in tensors if tensor.ndim), 1)
        self._copy(tensors)
        self._pulled.content = None  # the copy in the host buffer replaces it
        self._structure = tree.rebuilt(content, [None if n in set(self._numbers) else v for n, v in enumerate(values)])

    def complete(self) -> int:
        """Return 0, because no row is ever skipped."""
        return 0

    def arranged(self, number: int, leaf: torch.Tensor) -> torch.Tensor:
        """Return a sent tensor, given in the order of memory, with its dimensions in the user's order."""
        return leaf.permute(self._permutations[number])

    def rebuilt(self, leaves: list[torch.Tensor]) -> Any:
        """Return the batch in the user's structure, with the tensors that were sent to the device."""
        values = tree.leaves(self._structure)
        for place, number, leaf in zip(range(len(leaves)), self._numbers, leaves, strict=True):
            values[number] = _as_class_of(self._likes[place], self.arranged(place, leaf))
        content, self._structure = tree.rebuilt(self._structure, values), None
        return content

    def delivered_leaves(self, delivered: Any) -> list[torch.Tensor]:
        """Return the tensors that were sent to the device, taken from a batch that `rebuilt` returned."""
        values = tree.leaves(delivered)
        return [values[number].as_subclass(torch.Tensor) for number in self._numbers]

    def _copy(self, tensors: list[torch.Tensor]) -> None:
        orders = [_memory_order(tensor) for tensor in tensors]
        converts = [self._to_float and self._is_image(number, t) for number, t in enumerate(tensors)]
        dtypes = [self._pixels if convert else t.dtype for convert, t in zip(converts, tensors, strict=True)]
        sizes = [tensor.numel() * dtype.itemsize for tensor, dtype in zip(tensors, dtypes, strict=True)]
        if tensors:
            memory = self._allocate(sum(size + -size % _ALIGNMENT for size in sizes))
        start = 0
        for tensor, order, convert, dtype, size in zip(tensors, orders, converts, dtypes, sizes, strict=True):
            in_memory = tensor.permute(order)
            leaf = memory[start : start + size].view(dtype).view(in_memory.shape)
            if convert and dtype == torch.float32:
                torch.div(in_memory, _WHITE, out=leaf)
            else:
                leaf.copy_(in_memory)
            on_device = convert and dtype == torch.uint8
            self.leaves.append(leaf)
            self.conversions.append(Conversion.TO_FLOAT if on_device else Conversion.NONE)
            self._permutations.append([order.index(dimension) for dimension in range(tensor.ndim)])
            start += size + -size % _ALIGNMENT
        self.nbytes = sum(sizes)

    def _is_sent(self, number: int, value: Any) -> bool:
        """Whether a value is sent to the device.

        Raises:
            ConfigError: the value should be sent to the device, but cannot.
        """
        if type(value).__module__.startswith("PIL."):
            raise self._error(number, "is a PIL image", "add v2.ToImage() or ToTensor() to the transform")
        if isinstance(value, np.ndarray):
            self._remark(
                number, "is a NumPy array, which is not sent to the device", "collate it with torch.from_numpy"
            )
        if not isinstance(value, torch.Tensor):
            return False
        if value.device.type != "cpu":
            if value.device.type == self._device:
                return False  # the tensor is on the device already
            raise self._error(number, f"is already on {value.device}", "let the iterable return tensors on the CPU")
        if value.layout != torch.strided or value.is_quantized:
            raise self._error(number, f"is a tensor of layout {value.layout}", "collate it with .to_dense()")
        if value.dtype in _LACKED_BY_MPS and self._device == "mps":
            raise self._error(
                number, f"is {value.dtype}, which MPS does not support", "convert it with .to(torch.float32)"
            )
        if not value.is_contiguous() and not _is_dense(value):
            self._remark(
                number,
                "is not contiguous, so that .to(device) would first clone it on the CPU, and block on MPS",
                "end the transform or the collate function with .contiguous()",
            )
        return True

    def _is_image(self, place: int, tensor: torch.Tensor) -> bool:
        if tensor.dtype != torch.uint8 or tensor.ndim != 4:
            return False
        if tensor.shape[1] in _CHANNELS:
            return True
        raise self._error(
            self._numbers[place],
            f"is uint8 {list(tensor.shape)}, but to_float=True takes images [batch, channels, height, width]",
            "move the channels to the front with .permute(0, 3, 1, 2), or leave to_float out",
        )

    def _error(self, number: int, what: str, remedy: str) -> ConfigError:
        path = tree.path_of(self._pulled.content, number)
        return ConfigError(f"{path} of batch {self._pulled.number} {what}: {remedy}")

    def _remark(self, number: int, what: str, remedy: str) -> None:
        self._pulled.remarks.append(f"{tree.path_of(self._pulled.content, number)} {what}: {remedy}")


def _memory_order(tensor: torch.Tensor) -> list[int]:
    """Return the dimensions of a tensor in their order in memory, the outermost first."""
    if tensor.is_contiguous() or not _is_dense(tensor):
        return list(range(tensor.ndim))
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda dimension: -strides[dimension])


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements of a tensor fill their memory without gaps or overlap, in any order of dimensions."""
    sides = sorted(((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1))
    expected = 1
    for stride, size in sides:
        if stride != expected:
            return False
        expected *= size
    return True


def _class_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return an empty tensor of the same class if it is one of torchvision's tv_tensors; None for other tensors."""
    if type(tensor) is torch.Tensor:
        return None
    from torchvision import tv_tensors

    return tv_tensors.wrap(torch.empty(0, 4), like=tensor) if isinstance(tensor, tv_tensors.TVTensor) else None


def _as_class_of(like: torch.Tensor | None, tensor: torch.Tensor) -> torch.Tensor:
    if like is None:
        return tensor
    from torchvision import tv_tensors

    wrapped: torch.Tensor = tv_tensors.wrap(tensor, like=like)
    return wrapped
