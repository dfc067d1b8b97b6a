"""Random splits of a listing, drawn with a seed, with the same share of every class in each part."""

from dataclasses import replace
from fractions import Fraction
from math import lcm

import msgspec
import numpy as np
import numpy.typing as npt

from mps_shards.errors import ConfigError
from mps_shards.packing.option_values import parse_shares, parse_subset
from mps_shards.packing.sources.listing import Listing, Split
from mps_shards.shards import keyed
from mps_shards.wording import counted

__all__ = ["share_out", "split_listing", "subset_listing"]


def split_listing(listing: Listing, text: str, *, seed: int) -> Listing:
    """Cut the only split of a listing into parts; within each part the images keep their order.

    Each part gets its share of all images and of each class, both to within one image. Images without labels count as
    one class.

    Raises:
        ConfigError: `text` is malformed, the listing already has splits, or a part would be empty.
    """
    shares = parse_shares(text)
    rest = 1 - sum(shares.values())
    if len(listing.splits) != 1 or listing.splits[0].name:
        names = ", ".join(split.name for split in listing.splits)
        raise ConfigError(f"the source has splits of its own ({names}); leave --split out, or pack one of its folders")
    whole = listing.splits[0]
    part_of = _draw_parts(_strata(whole), [*shares.values(), *([Fraction(rest)] if rest else [])], seed=seed)
    counts = np.bincount(part_of, minlength=len(shares))
    for name, count in zip(shares, counts[: len(shares)], strict=True):
        if not count:
            raise ConfigError(f"the split {name!r} would get none of {len(part_of)} images; give it a larger share")
    splits = [
        Split(name=name, task=whole.task, entries=whole.entries.take(np.flatnonzero(part_of == number).tolist()))
        for number, name in enumerate(shares)
    ]
    left_out = int(np.count_nonzero(part_of == len(shares)))
    notes = [f"{counted(left_out, 'image')} left out, as the shares add up to {float(1 - rest):g}"] if left_out else []
    ordered = tuple(sorted(splits, key=lambda split: split.name))
    return replace(listing, splits=ordered, notes=(*listing.notes, *notes))


def subset_listing(listing: Listing, share: float, *, seed: int) -> Listing:
    """Keep a share of the images of every split, with the same share of every class.

    Raises:
        ConfigError: a split would be left without an image.
    """
    fraction = parse_subset(share)
    splits = []
    for split in listing.splits:
        part_of = _draw_parts(_strata(split), [fraction, 1 - fraction], seed=seed)
        kept = np.flatnonzero(part_of == 0)
        if not len(kept):
            raise ConfigError(
                f"a subset of {share} of {counted(len(part_of), 'image')} would be empty; choose a larger share"
            )
        splits.append(replace(split, entries=split.entries.take(kept.tolist())))
    return replace(listing, splits=tuple(splits), notes=(*listing.notes, f"a subset of {share} of the images"))


def _strata(split: Split) -> npt.NDArray[np.int32]:
    """Return the stratum of each image, int32 [n]: its class, or its set of classes in a multi-label set."""
    if split.task != "multilabel" or not split.entries[0].note:  # entries of a shard set have no note
        return split.entries.labels
    numbers: dict[bytes, int] = {}
    sets = (msgspec.json.decode(entry.note, type=dict[str, msgspec.Raw])["labels"] for entry in split.entries)
    return np.fromiter((numbers.setdefault(bytes(each), len(numbers)) for each in sets), np.int32, len(split.entries))


def _draw_parts(labels: npt.NDArray[np.int32], shares: list[Fraction], *, seed: int) -> npt.NDArray[np.intp]:
    """Return the number of the part that each image goes to: intp [n]."""
    classes, class_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keyed.bits(keyed.Stream.SPLIT, len(labels), seed=seed), class_of))
    counts = share_out(sizes, shares)
    part_of = np.empty(len(labels), np.intp)
    part_of[order] = np.repeat(np.tile(np.arange(len(shares)), len(classes)), counts.ravel())
    return part_of


def share_out(sizes: npt.NDArray[np.int64], shares: list[Fraction]) -> npt.NDArray[np.int64]:
    """Return how many images of each class go to each part: int64 [classes, parts].

    Rows add up to `sizes`, and columns to the shares of all images, rounded by largest remainders. Every number is
    within one of its exact share. The images that remain after rounding down are assigned part by part to the classes
    with the most images left, largest remainders first. This is the construction of Havel and Hakimi for a graph of
    given degrees, so a solution is always found. With two parts it is the solution nearest to the exact shares.
    """
    unit = lcm(*(share.denominator for share in shares))
    counts: npt.NDArray[np.int64]
    weights = np.array([int(share * unit) for share in shares])
    counts, remainders = np.divmod(sizes[:, None] * weights, unit)
    totals, over = np.divmod(sizes.sum() * weights, unit)
    totals[np.argsort(-over, kind="stable")[: sizes.sum() - totals.sum()]] += 1
    left = sizes - counts.sum(axis=1)
    for part, wanted in enumerate(totals - counts.sum(axis=0)):
        chosen = np.lexsort((-remainders[:, part], -left))[:wanted]
        counts[chosen, part] += 1
        left[chosen] -= 1
    return counts
