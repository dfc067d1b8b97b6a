"""Listings of folders and lists for packing."""

from pathlib import Path
from typing import Any

from mps_shards.packing.pack_options import SourceOptions
from mps_shards.packing.sources.listing import Listing
from mps_shards.packing.sources.source_choice import open_source

__all__ = ["list_source"]


def list_source(source: Path, *, by_name: bool = False, skip_bad: bool = False, **options: Any) -> Listing:
    """Return the listing of a source."""
    keys, on_bad_sample = "name" if by_name else "stem", "skip" if skip_bad else "fail"
    return open_source(source).listing(SourceOptions(keys=keys, on_bad_sample=on_bad_sample, **options))
