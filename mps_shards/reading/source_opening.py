"""Opening of the shards that a user names: shard sets with a manifest, or foreign shards."""

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
    """Return the shards that a user names as a list, with brace patterns expanded as in webdataset."""
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
    """Return the source of samples for the shards that a user names.

    Args:
        shards: shards, as for `ShardDataset`; the values of a mapping are the weights of its sets.
        reading: options for fetching, checking and decoding samples.
        shuffle: options of the shuffle; None for the order of packing.
        subset, balance: options for which samples an epoch has, and how often.
        choice: fields to take for image and target.

    Raises:
        ConfigError: shard sets and foreign shards are mixed, or foreign shards are named with weights, `subset`,
            `balance` or `verify`, which need an index.
        ManifestError: a manifest is malformed, or a folder holds neither a manifest nor tars.
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
        raise ConfigError(
            f"{odd.folder} has no {MANIFEST_NAME}, but other sets have one, so they cannot be read together: run "
            "'mps-shards index' on it"
        )
    if verify:
        raise ConfigError(
            f"verify=True needs an index, but {locations[0].folder} has none: run 'mps-shards index' on it"
        )
    for name, value in (("weights", weights), ("subset", subset), ("balance", balance)):
        if value is not None:
            raise ConfigError(
                f"{name} need{'s' * (name != 'weights')} shard sets with a {MANIFEST_NAME}, but {locations[0].folder} "
                "has none: run 'mps-shards index' on it"
            )
    return ForeignSource(locations, shuffle, cache, choice)


def _manifest_of(location: Location) -> Manifest | None:
    if location.index is not None:
        return read_manifest(location.index)
    return find_manifest(location.folder, location.names)
