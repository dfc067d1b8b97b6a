"""Memory layout of a batch: the shape and dtype of each tensor of a sample, and errors for unsupported values."""

import enum
from typing import Any, NamedTuple

import torch

from mps_shards.errors import ConfigError

__all__ = ["Conversion", "Leaf", "describe_difference", "image_leaf", "target_leaf"]


class Conversion(enum.Enum):
    """Conversion of a tensor on the device, after the copy."""

    NONE = "none"
    TO_FLOAT = "ToTensor's division, uint8 -> float32"
    TO_INT64 = "uint8 -> int64"


class Leaf(NamedTuple):
    """Layout of one tensor of a sample in a host buffer.

    Attributes:
        shape: shape of the tensor, without the batch dimension.
        dtype: dtype in the host buffer.
        conversion: conversion on the device, after the copy.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    conversion: Conversion = Conversion.NONE


def image_leaf(leaf: Any, pixels: torch.dtype, key: str) -> Leaf:
    """Return the layout of an image.

    Args:
        leaf: uint8 or float32 tensor; float32 is stored unchanged.
        pixels: dtype in which uint8 images are stored: float32, or uint8 to convert them on the device.
        key: key of the sample, for messages.

    Raises:
        ConfigError: the image is anything else.
    """
    if not isinstance(leaf, torch.Tensor) or leaf.dtype not in (torch.uint8, torch.float32):
        raise ConfigError(
            f"the transform returned {_kind(leaf)} as the image of sample {key!r}; "
            "it must return a uint8 or float32 tensor"
        )
    if leaf.dtype == torch.uint8 and pixels == torch.uint8:
        return Leaf(tuple(leaf.shape), torch.uint8, Conversion.TO_FLOAT)
    return Leaf(tuple(leaf.shape), torch.float32)


def target_leaf(leaf: Any, pixels: torch.dtype, key: str) -> Leaf:
    """Return the layout of a target: integers become int64, and floats float32.

    Args:
        leaf: a number, or an integer or float32 tensor.
        pixels: uint8 if the device converts images; label maps uint8 are then copied as uint8 and converted there, too.
        key: key of the sample, for messages.

    Raises:
        ConfigError: the target is anything else.
    """
    if isinstance(leaf, bool | int):
        return Leaf((), torch.int64)
    if isinstance(leaf, float):
        return Leaf((), torch.float32)
    if isinstance(leaf, torch.Tensor):
        if leaf.dtype == torch.float32:
            return Leaf(tuple(leaf.shape), torch.float32)
        if leaf.dtype == torch.uint8 and leaf.ndim >= 2 and pixels == torch.uint8:
            return Leaf(tuple(leaf.shape), torch.uint8, Conversion.TO_INT64)
        if not leaf.dtype.is_floating_point and not leaf.dtype.is_complex:
            return Leaf(tuple(leaf.shape), torch.int64)
    raise ConfigError(
        f"the transform returned {_kind(leaf)} as the target of sample {key!r}; "
        "it must return a number, or an integer or float32 tensor"
    )


def describe_difference(first_key: str, layout: list[Leaf], second_key: str, other: list[Leaf]) -> str:
    """Return the error message for two samples whose layouts differ, so that they cannot be in one batch."""
    for one, two in zip(layout, other, strict=False):
        if one != two:
            return (
                f"sample {first_key!r} is {_shape(one)}, but sample {second_key!r} of the same batch is {_shape(two)}; "
                "give a transform of a fixed size (classify.train(224)), collate=Collate(pad=1), or batch_size=None"
            )
    return (
        f"samples {first_key!r} and {second_key!r} of one batch differ in structure: "
        "in the keys of a dict, or in the number of tensors"
    )


def _kind(leaf: Any) -> str:
    return str(leaf.dtype) if isinstance(leaf, torch.Tensor) else type(leaf).__name__


def _shape(leaf: Leaf) -> str:
    return f"{'x'.join(map(str, leaf.shape)) or 'a number'} ({str(leaf.dtype).removeprefix('torch.')})"
