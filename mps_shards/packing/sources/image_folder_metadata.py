"""Folders with a ``metadata.csv`` or ``metadata.jsonl`` next to the images, as in Hugging Face's ImageFolder."""

import posixpath
from dataclasses import replace
from itertools import islice, pairwise

from mps_shards.errors import ConfigError
from mps_shards.packing.sources.file_tree import SPLIT_NAMES, FileTree
from mps_shards.packing.sources.list_columns import has_label_column
from mps_shards.packing.sources.list_rows import read_rows
from mps_shards.packing.sources.list_table import Table
from mps_shards.packing.sources.listing import Listing

__all__ = ["list_metadata", "metadata_in"]

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def metadata_in(tree: FileTree) -> list[str]:
    """Return the paths of the metadata files in a folder and in the folders directly inside it."""
    inside = ["", *(f"{name}/" for name in tree.folders())]
    return [prefix + name for prefix in inside for name in NAMES if tree.files.is_file(prefix + name)]


def list_metadata(tree: FileTree) -> Listing:
    """List the images that the metadata files name; further columns become the sample's ``.json``.

    The rules are those of ImageFolder (https://huggingface.co/docs/datasets/image_dataset): the column ``file_name`` is
    relative to the metadata file; the first folder on a path names the split if it is named like one; images that no
    row names are left out and counted. A column that is named like labels gives the classes, and ``mask_file_name``
    gives label maps. Without both, the folders of the images are the classes if there are several and none is nested,
    as ImageFolder does with drop_labels=False.

    Raises:
        ConfigError: two metadata files describe the same images, or a metadata file is Parquet.
        DataError: a row or its image cannot be packed, as for `list_table`.
    """
    files = metadata_in(tree)
    for path in files:
        if path.endswith(".parquet"):
            raise ConfigError(f"{tree.shown(path)}: Parquet metadata is not read; write metadata.csv or metadata.jsonl")
    for one, other in pairwise(files):
        if posixpath.dirname(one) in (posixpath.dirname(other), ""):
            raise ConfigError(f"{tree.shown(one)} and {other} describe the same images; remove one")
    if not files:
        raise ConfigError(f"{tree.files.name} holds no metadata.csv or metadata.jsonl")
    has_label = any(has_label_column(cells) for path in files for _, cells in islice(read_rows(tree.files, path), 1))
    folders: set[str] = set()

    def guess(path: str) -> tuple[str, str]:
        top, _, rest = path.partition("/")
        split = top if rest and top.lower() in SPLIT_NAMES else ""
        folder = posixpath.dirname(rest if split else path)
        folders.add(folder)
        return split, "" if has_label else folder

    table = Table(tree)
    for path in files:
        folder, slash, _ = path.rpartition("/")
        table.read(path, base=folder + slash, guess=guess)
    are_classes = len(folders) > 1 and not any("/" in folder or not folder for folder in folders)
    has_label = has_label or bool(tree.options.label_column)
    if not has_label and not are_classes:
        table.drop_labels()
    listing = table.listing("metadata folder")
    named = sum(1 + bool(entry.mask) for split in listing.splits for entry in split.entries)
    return replace(listing, unnamed=max(0, sum(1 for _ in tree.image_paths()) - named))
