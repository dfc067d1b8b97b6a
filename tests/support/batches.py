"""Comparison of batches: keys, targets and every pixel."""

from collections.abc import Iterable
from typing import Any

import torch


def keys_of(batches: Iterable[Any]) -> list[list[str]]:
    """Return the keys of each batch of a data set with ``keys=True``."""
    return [list(batch[-1]) for batch in batches]


def assert_same(found: Iterable[Any], expected: Iterable[Any]) -> None:
    """Fail unless keys, targets and every bit of the images are equal in both lists of batches."""
    found, expected = list(found), list(expected)
    assert keys_of(found) == keys_of(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[1].cpu(), other[1].cpu())
        assert one[0].dtype == other[0].dtype and torch.equal(one[0].cpu(), other[0].cpu()), one[-1]
