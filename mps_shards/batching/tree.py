"""Trees of values: tuples, lists and dicts of tensors and numbers, taken apart and put together again."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["leaves", "rebuilt"]


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, depth first; dicts in the order of their keys."""
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree, key=str) for leaf in leaves(tree[key])]
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


def rebuilt(tree: Any, new: Iterator[Any] | list[Any]) -> Any:
    """A tree of the same structure with other leaves, in the order of `leaves`."""
    return _rebuilt(tree, iter(new).__next__)


def _rebuilt(tree: Any, next_leaf: Callable[[], Any]) -> Any:
    if isinstance(tree, dict):
        items = {key: _rebuilt(tree[key], next_leaf) for key in sorted(tree, key=str)}
        return {key: items[key] for key in tree}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_rebuilt(item, next_leaf) for item in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(_rebuilt(item, next_leaf) for item in tree)
    return next_leaf()
