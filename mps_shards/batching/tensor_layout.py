"""How samples lie in a batch: shape and dtype of each leaf, and what cannot be delivered."""

from typing import Any, NamedTuple

import torch

from mps_shards.errors import ConfigError

__all__ = ["Leaf", "pixel_leaf", "target_leaf", "unequal"]


class Leaf(NamedTuple):
    """One tensor of a sample, as it lies in a slot."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def pixel_leaf(leaf: Any, pixels: torch.dtype, key: str) -> Leaf:
    """An image: uint8 as `pixels` asks for, or float32, which is left as it is.

    Raises:
        ConfigError: it is anything else.
    """
    if not isinstance(leaf, torch.Tensor) or leaf.dtype not in (torch.uint8, torch.float32):
        raise ConfigError(
            f"the transform gave {_kind(leaf)} as image of sample {key!r}; it must give uint8 or float32 tensors"
        )
    return Leaf(tuple(leaf.shape), pixels if leaf.dtype == torch.uint8 else torch.float32)


def target_leaf(leaf: Any, pixels: torch.dtype, key: str) -> Leaf:
    """A label or mask: whole numbers become int64, masks of bytes stay so on the way to a device; float32 stays.

    Raises:
        ConfigError: it is anything else.
    """
    if isinstance(leaf, bool | int):
        return Leaf((), torch.int64)
    if isinstance(leaf, float):
        return Leaf((), torch.float32)
    if isinstance(leaf, torch.Tensor):
        if leaf.dtype == torch.float32:
            return Leaf(tuple(leaf.shape), torch.float32)
        if leaf.dtype == torch.uint8 and leaf.ndim >= 2:
            return Leaf(tuple(leaf.shape), torch.uint8 if pixels == torch.uint8 else torch.int64)
        if not leaf.dtype.is_floating_point and not leaf.dtype.is_complex:
            return Leaf(tuple(leaf.shape), torch.int64)
    raise ConfigError(
        f"the transform gave {_kind(leaf)} as target of sample {key!r}; "
        "it must give whole numbers, integer or float32 tensors"
    )


def unequal(first: str, layout: list[Leaf], second: str, other: list[Leaf]) -> str:
    """What to say of two samples that cannot be in one batch."""
    for one, two in zip(layout, other, strict=False):
        if one != two:
            return (
                f"sample {first!r} is {_shape(one)}, but sample {second!r} of the same batch is {_shape(two)}; "
                "give a transform of a fixed size (classify.train(224)), pad=1, or batch_size=None"
            )
    return f"samples {first!r} and {second!r} of one batch differ in structure: in keys, or in the number of tensors"


def _kind(leaf: Any) -> str:
    return str(leaf.dtype) if isinstance(leaf, torch.Tensor) else type(leaf).__name__


def _shape(leaf: Leaf) -> str:
    return f"{'x'.join(map(str, leaf.shape)) or 'a number'} ({str(leaf.dtype).removeprefix('torch.')})"
