"""Assignment of samples to shards: a pure function of the listing and the options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from mps_shards.packing.pack_options import Keys
from mps_shards.packing.sample_fields import NO_RULES, FieldRules
from mps_shards.packing.sources.listing import Entries
from mps_shards.shards import keyed
from mps_shards.shards.key_names import encode_key
from mps_shards.shards.tar import BLOCK, END

__all__ = ["SetPlan", "ShardPlan", "key_of", "packed_bytes", "plan_shards", "shard_name"]

_CHUNK = 1 << 18  # entries that are processed together, which takes about 50 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """One shard to write: its file name and its samples in order."""

    name: str
    entries: Entries = field(repr=False)
    keys: Keys = "stem"
    rules: FieldRules = NO_RULES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetPlan(Sequence[ShardPlan]):
    """The shards of one set. Each `ShardPlan` is made on access, so this plan takes only 8 bytes for each image.

    Attributes:
        order: intp [n], numbers of the entries in the order of the set.
        cuts: start of each shard in this order, and the end of the last shard.
    """

    prefix: str
    entries: Entries = field(repr=False)
    order: npt.NDArray[np.intp] = field(repr=False)
    cuts: tuple[int, ...] = field(repr=False)
    keys: Keys
    rules: FieldRules

    def __len__(self) -> int:
        return len(self.cuts) - 1

    @overload
    def __getitem__(self, number: int) -> ShardPlan: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardPlan]: ...
    def __getitem__(self, number: int | slice) -> ShardPlan | list[ShardPlan]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        place = range(len(self))[number]
        entries = self.entries.take(self.order[self.cuts[place] : self.cuts[place + 1]].tolist())
        return ShardPlan(name=shard_name(self.prefix, place), entries=entries, keys=self.keys, rules=self.rules)


def plan_shards(
    entries: Entries,
    *,
    prefix: str,
    shard_bytes: int,
    shard_samples: int | None,
    shuffle_seed: int | None,
    keys: Keys = "stem",
    rules: FieldRules = NO_RULES,
    chosen: npt.NDArray[np.intp] | None = None,
) -> SetPlan:
    """Cut the entries into shards, shuffled first unless `shuffle_seed` is None.

    A shard takes samples until the next one would make it larger than `shard_bytes`, or until it holds
    `shard_samples`; a sample larger than `shard_bytes` gets a shard of its own.

    Args:
        chosen: numbers of the entries to pack; by default all entries.
    """
    order = np.arange(len(entries)) if chosen is None else chosen
    if shuffle_seed is not None:
        order = order[keyed.permutation(keyed.Stream.PACK, len(order), seed=shuffle_seed)]
    if shard_samples:
        cuts = [*range(0, len(order), shard_samples), len(order)]
    else:
        cuts = _cuts(packed_bytes(entries)[order], shard_bytes - len(END))
    return SetPlan(prefix=prefix, entries=entries, order=order, cuts=tuple(cuts), keys=keys, rules=rules)


def shard_name(prefix: str, number: int) -> str:
    """Return the file name of a shard, such as ``train-000012.tar``."""
    return f"{prefix}-{number:06d}.tar"


def key_of(path: str, keys: Keys) -> str:
    """Return the key of the sample that the image at this path becomes, with the extension if `keys` is "name"."""
    return encode_key(path if keys == "name" else path.rpartition(".")[0])


def packed_bytes(entries: Entries) -> npt.NDArray[np.int64]:
    """Estimate the size in bytes of each sample in its tar from the listing: int64 [n].

    The estimate leaves out masks, size changes of images that are encoded again, and pax headers of very long names.
    """
    packed = _member_bytes(entries.sizes.astype(np.int64))
    packed[entries.labels >= 0] += 2 * BLOCK
    for start in range(0, len(entries), _CHUNK):
        part = packed[start : start + _CHUNK]
        _, mask, shapes, note, caption = entries.text_bytes(start, start + len(part)).T
        part[(mask > 0) | (shapes > 0)] += 2 * BLOCK
        part += np.where(note > 0, _member_bytes(note), 0) + np.where(caption > 0, _member_bytes(caption), 0)
    return packed


def _member_bytes(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return BLOCK + sizes + -sizes % BLOCK


def _cuts(sizes: npt.NDArray[np.int64], room: int) -> list[int]:
    """Return the start of each shard of at most `room` bytes, or of one larger sample, and the end of the last."""
    ends = np.cumsum(sizes)
    cuts = [0]
    while cuts[-1] < len(sizes):
        start = cuts[-1]
        filled = int(ends[start - 1]) if start else 0
        cuts.append(max(start + 1, int(np.searchsorted(ends, filled + room, side="right"))))
    return cuts
