"""Folders of files -> a listing: which images there are, of which class, in which split. One file a layout.

A new layout is a file with a function ``Source -> Listing`` and, where it can be recognised, a mark; `find` names both.
"""

from typing import Literal, TypeAlias

__all__ = ["Layout"]

Layout: TypeAlias = Literal[
    "auto", "classes", "splits", "flat", "list", "metadata", "pairs", "voc", "cityscapes", "coco"
]
