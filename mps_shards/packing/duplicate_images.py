"""Search for images that are identical byte for byte."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mps_shards.errors import DataError
from mps_shards.packing.pack_report import Duplicates, encodable
from mps_shards.packing.sources.listing import Entry, Split
from mps_shards.packing.sources.source import Source
from mps_shards.storage.ordered_map import ordered_map

__all__ = ["Numbers", "find_duplicates", "numbers_without"]

Numbers = npt.NDArray[np.intp]

_CHUNK = 2048  # images that a thread hashes at a time
_SHOWN = 5


def find_duplicates(
    source: Source, splits: Sequence[Split], *, threads: int, dropped: bool = False
) -> tuple[Duplicates, Numbers]:
    """Find images that repeat an earlier image; return a summary and their numbers among the entries of all splits.

    Only images of equal size in bytes are opened, and only those whose last bytes are equal are read in full.

    Args:
        dropped: whether the repeated images will be left out, which the summary states.

    Raises:
        StorageError: a file cannot be read.
    """
    stops = np.cumsum([len(split.entries) for split in splits])

    def entry(number: int) -> Entry:
        split = int(np.searchsorted(stops, number, side="right"))
        return splits[split].entries[number - int(stops[split])]  # negative, so it counts from the end of the split

    def ending(entry: Entry) -> bytes:
        salt = entry.size.to_bytes(16)
        try:
            ending = source.ending(entry)
        except DataError:  # an image that cannot be read repeats no other; packing reports it
            ending = entry.path.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(ending, digest_size=8, salt=salt).digest()

    def digest(entry: Entry) -> bytes:
        return hashlib.sha256(source.read(entry).image).digest()

    def hashes(numbers: Numbers, hashed: Callable[[Entry], bytes]) -> bytes:
        def of_chunk(start: int) -> bytes:
            return b"".join(map(hashed, map(entry, numbers[start : start + _CHUNK].tolist())))

        chunks = range(0, len(numbers), _CHUNK)
        return b"".join(ordered_map(of_chunk, chunks, workers=threads, name="mps-shards-hash"))

    numbers = np.flatnonzero(_repeated(np.concatenate([split.entries.sizes for split in splits])))
    numbers = numbers[_repeated(np.frombuffer(hashes(numbers, ending), np.uint64))]
    digests = hashes(numbers, digest)
    firsts: dict[bytes, int] = {}
    pairs = [
        (firsts.setdefault(digests[32 * place : 32 * place + 32], number), number)
        for place, number in enumerate(numbers.tolist())
    ]
    pairs = [(first, number) for first, number in pairs if first != number]
    conflicting = [pair for pair in pairs if len({-1, *(entry(number).label for number in pair)}) == 3]

    def shown(pairs: list[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
        return tuple((encodable(entry(first).path), encodable(entry(other).path)) for first, other in pairs[:_SHOWN])

    summary = Duplicates(
        images=len(pairs),
        pairs=shown(pairs),
        conflicts=len(conflicting),
        conflicting=shown(conflicting),
        dropped=dropped,
    )
    return summary, np.array([number for _, number in pairs], np.intp)


def numbers_without(splits: Sequence[Split], repeated: Numbers) -> list[Numbers]:
    """Return for each split the numbers of its entries that are not among the repeated ones."""
    kept, start = [], 0
    for split in splits:
        own = repeated[(repeated >= start) & (repeated < start + len(split.entries))] - start
        kept.append(np.delete(np.arange(len(split.entries)), own))
        start += len(split.entries)
    return kept


def _repeated(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return for each value whether it occurs more than once. `np.unique` would need five copies of all values."""
    order = np.argsort(values)
    equal = values[order[1:]] == values[order[:-1]]
    many = np.zeros(len(values), np.bool_)
    many[order[1:][equal]] = many[order[:-1][equal]] = True
    return many
