"""Which sample goes into which shard: a pure function of the listing and the options."""

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mps_shards.errors import ConfigError
from mps_shards.pack.layouts.listing import Entry
from mps_shards.shards import keyed
from mps_shards.shards.naming import encode_key
from mps_shards.shards.tar import BLOCK, END

__all__ = ["Keys", "ShardPlan", "key_and_field", "parse_size", "plan_shards", "shard_name"]

Keys: TypeAlias = Literal["stem", "name"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard to write: its file name and its samples in order."""

    name: str
    entries: list[Entry] = field(repr=False)
    keys: Keys = "stem"


def parse_size(text: str | int) -> int:
    """Bytes from ``"256MB"`` (decimal), ``"256MiB"`` (binary) or a number.

    Raises:
        ConfigError: it is no size, or not positive.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if size < 1:
        raise ConfigError(f"{text!r} is no size; write it like 256MB, 1GiB or 500000000")
    return size


def plan_shards(
    entries: list[Entry],
    *,
    prefix: str,
    shard_bytes: int,
    shard_samples: int | None,
    shuffle_seed: int | None,
    keys: Keys = "stem",
) -> list[ShardPlan]:
    """Cut the entries, shuffled unless `shuffle_seed` is None, into shards.

    A shard takes samples until the next one would make it larger than `shard_bytes`, or until it holds
    `shard_samples`; a sample larger than `shard_bytes` gets a shard of its own.
    """
    order = range(len(entries))
    if shuffle_seed is not None:
        order = keyed.permutation(keyed.Stream.PACK, len(entries), seed=shuffle_seed).tolist()
    cuts: list[list[Entry]] = [[]]
    size = len(END)
    for place in order:
        entry = entries[place]
        grown = size + _packed_bytes(entry)
        full = len(cuts[-1]) == shard_samples if shard_samples else grown > shard_bytes
        if full and cuts[-1]:
            cuts.append([])
            grown = len(END) + _packed_bytes(entry)
        cuts[-1].append(entry)
        size = grown
    return [ShardPlan(name=shard_name(prefix, number), entries=cut, keys=keys) for number, cut in enumerate(cuts)]


def shard_name(prefix: str, number: int) -> str:
    """``train-000012.tar``."""
    return f"{prefix}-{number:06d}.tar"


def key_and_field(path: str, keys: Keys) -> tuple[str, str]:
    """Key and field of a source path; the field keeps the extension's case, so that unpacking gives the name back."""
    stem, _, extension = path.rpartition(".")
    return encode_key(path if keys == "name" else stem), extension


def _packed_bytes(entry: Entry) -> int:
    """Bytes in the tar, but for the rare pax headers of very long names."""
    return BLOCK + entry.size + -entry.size % BLOCK + (2 * BLOCK if entry.label >= 0 else 0)
