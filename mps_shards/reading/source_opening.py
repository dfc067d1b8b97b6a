"""Open what a user named: shard sets with a manifest, on a disk or in a store, or tars without one."""

import os
from collections.abc import Iterable, Mapping

from mps_shards.errors import ConfigError
from mps_shards.reading.arguments import Path, Shards
from mps_shards.reading.foreign_source import ForeignSource
from mps_shards.reading.indexed_source import IndexedSource
from mps_shards.reading.read_options import ReadOptions
from mps_shards.reading.remote_source import RemoteSource
from mps_shards.reading.sample_sources import Source
from mps_shards.reading.selection import Selection
from mps_shards.sampling.balance import Balance
from mps_shards.sampling.order import Shuffle
from mps_shards.sampling.subset import Subset
from mps_shards.shards.field_choice import FieldChoice
from mps_shards.shards.manifest import MANIFEST_NAME, Manifest
from mps_shards.shardset.opening import find_manifest, read_manifest
from mps_shards.shardset.shard_set import ShardSet
from mps_shards.storage.location import Location, locate

__all__ = ["expanded", "open_source"]


def expanded(shards: Path | Iterable[Path]) -> list[Path]:
    """The names that were given, with brace patterns expanded as webdataset expands them."""
    from webdataset.shardlists import expand_urls

    named = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    found: list[Path] = []
    for item in named:
        found += expand_urls(item) if isinstance(item, str) and "{" in item else [item]
    return found


def open_source(
    shards: Shards,
    reading: ReadOptions,
    *,
    shuffle: Shuffle | None = None,
    subset: Subset | None = None,
    balance: Balance | None = None,
    choice: FieldChoice | None = None,
) -> Source:
    """Open shard sets where there are manifests, else foreign tars.

    Args:
        shards: Shards, as for `ShardDataset`; the values of a mapping are the weights of its sets.
        subset, balance: Options for which samples an epoch has, and how often.
        choice: The fields to take for image and target.

    Raises:
        ConfigError: Both kinds were named together, or foreign tars with weights, `subset`, `balance` or `verify`.
        ManifestError: A manifest is malformed, or a folder holds neither a manifest nor tars.
    """
    locations = locate(expanded(shards), index=reading.index, options=reading.store)
    weights = list(shards.values()) if isinstance(shards, Mapping) else None
    verify, cache = reading.verify, reading.open_cache()
    manifests = [_manifest_of(location) for location in locations]
    if all(manifests):
        sets = [
            ShardSet(location, verify=verify, cache=cache, choice=choice, manifest=manifest)
            for location, manifest in zip(locations, manifests, strict=True)
        ]
        selection = Selection(sets, weights=weights, shuffle=shuffle, subset=subset, balance=balance)
        if any(one.remote for one in sets):
            return RemoteSource(selection, max_bytes=reading.ahead_bytes)
        return IndexedSource(selection)
    if any(manifests):
        odd = locations[manifests.index(None)]
        raise ConfigError(f"{odd.folder} has no {MANIFEST_NAME}, the other sets have: they cannot be read together")
    if verify:
        raise ConfigError(f"verify=True needs an index, {locations[0].folder} has none: run 'mps-shards index' on it")
    for name, value in (("weights", weights), ("subset", subset), ("balance", balance)):
        if value is not None:
            raise ConfigError(
                f"{name} need{'s' * (name != 'weights')} shard sets with a {MANIFEST_NAME}, {locations[0].folder} has "
                "none: run 'mps-shards index' on it"
            )
    return ForeignSource(locations, shuffle, cache, choice)


def _manifest_of(location: Location) -> Manifest | None:
    if location.index is not None:
        return read_manifest(location.index)
    return find_manifest(location.folder, location.names)
