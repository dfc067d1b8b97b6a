"""Functions for trees of values, which are tuples, lists and dicts of tensors and numbers."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["leaves", "path_of", "rebuilt"]


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree, depth first; the values of a dict are in the order of its keys as strings."""
    if isinstance(tree, Mapping):
        return [leaf for key in sorted(tree, key=str) for leaf in leaves(tree[key])]
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


def path_of(tree: Any, number: int, root: str = "batch") -> str:
    """Return the Python expression for leaf `number` of the tree `root`, such as ``batch[0]['image']``."""
    if isinstance(tree, Mapping):
        items = [(f"[{key!r}]", tree[key]) for key in sorted(tree, key=str)]
    elif isinstance(tree, tuple | list):
        items = [(f"[{place}]", item) for place, item in enumerate(tree)]
    else:
        return root
    for step, item in items:
        count = len(leaves(item))
        if number < count:
            return path_of(item, number, root + step)
        number -= count
    raise IndexError(number)


def rebuilt(tree: Any, new: Iterator[Any] | list[Any]) -> Any:
    """Return a tree of the same structure with the leaves `new`, which are in the order of `leaves`."""
    return _rebuilt(tree, iter(new).__next__)


def _rebuilt(tree: Any, next_leaf: Callable[[], Any]) -> Any:
    if isinstance(tree, Mapping):
        items = {key: _rebuilt(tree[key], next_leaf) for key in sorted(tree, key=str)}
        if type(tree) is dict:
            return {key: items[key] for key in tree}
        other = copy.copy(tree)  # torch copies and fills mappings of other types in the same way
        for key in tree:
            other[key] = items[key]  # type: ignore[index]
        return other
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_rebuilt(item, next_leaf) for item in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(_rebuilt(item, next_leaf) for item in tree)
    return next_leaf()
