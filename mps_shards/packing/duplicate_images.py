"""Images that are the same, byte for byte, wherever they lie."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mps_shards.errors import StorageError
from mps_shards.packing.pack_report import Duplicates, printable
from mps_shards.packing.sources.listing import Entry, Split

__all__ = ["Numbers", "find_duplicates", "without"]

Numbers = npt.NDArray[np.intp]

_TAIL = 4096  # bytes; files of one size and one camera begin alike, but hardly end so
_CHUNK = 2048  # files a task
_SHOWN = 5


def find_duplicates(
    source: Path, splits: Sequence[Split], *, threads: int, dropped: bool = False
) -> tuple[Duplicates, Numbers]:
    """What repeats an earlier image: in words, and as numbers of entries, counted through all splits.

    Only files of equal size are opened, and only those that end alike are read whole.

    Args:
        dropped: whether they will be left out; for the words.

    Raises:
        StorageError: a file cannot be read.
    """
    stops = np.cumsum([len(split.entries) for split in splits])

    def entry(number: int) -> Entry:
        split = int(np.searchsorted(stops, number, side="right"))
        return splits[split].entries[number - int(stops[split])]  # from the end

    def hashes(numbers: Numbers, hashed: Callable[[Path, int], bytes]) -> bytes:
        def of_chunk(start: int) -> bytes:
            found = map(entry, numbers[start : start + _CHUNK].tolist())
            return b"".join(_hashed(source / each.path, each.size, hashed) for each in found)

        with ThreadPoolExecutor(threads, thread_name_prefix="mps-shards-hash") as pool:
            return b"".join(pool.map(of_chunk, range(0, len(numbers), _CHUNK)))

    numbers = np.flatnonzero(_repeated(np.concatenate([split.entries.sizes for split in splits])))
    numbers = numbers[_repeated(np.frombuffer(hashes(numbers, _tail), np.uint64))]
    digests = hashes(numbers, _whole)
    firsts: dict[bytes, int] = {}
    pairs = [
        (firsts.setdefault(digests[32 * place : 32 * place + 32], number), number)
        for place, number in enumerate(numbers.tolist())
    ]
    pairs = [(first, number) for first, number in pairs if first != number]
    conflicting = [pair for pair in pairs if len({-1, *(entry(number).label for number in pair)}) == 3]

    def shown(pairs: list[tuple[int, int]]) -> tuple[tuple[str, str], ...]:
        return tuple((printable(entry(first).path), printable(entry(other).path)) for first, other in pairs[:_SHOWN])

    words = Duplicates(
        images=len(pairs),
        pairs=shown(pairs),
        conflicts=len(conflicting),
        conflicting=shown(conflicting),
        dropped=dropped,
    )
    return words, np.array([number for _, number in pairs], np.intp)


def without(splits: Sequence[Split], repeated: Numbers) -> list[Numbers]:
    """Numbers of the entries of each split that stay."""
    kept, start = [], 0
    for split in splits:
        own = repeated[(repeated >= start) & (repeated < start + len(split.entries))] - start
        kept.append(np.delete(np.arange(len(split.entries)), own))
        start += len(split.entries)
    return kept


def _repeated(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    many: npt.NDArray[np.bool_] = counts[inverse] > 1
    return many


def _hashed(path: Path, size: int, hashed: Callable[[Path, int], bytes]) -> bytes:
    try:
        return hashed(path, size)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _tail(path: Path, size: int) -> bytes:
    """8 bytes that differ where the sizes or the last bytes do."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
    finally:
        os.close(descriptor)
    return hashlib.blake2b(tail, digest_size=8, salt=size.to_bytes(16)).digest()


def _whole(path: Path, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()
